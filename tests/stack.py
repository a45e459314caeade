"""The whole of HelixFlow as `manage.py up --demo` starts it, in a folder and on a port of its own."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from helixflow.stack import embedded

ROOT = Path(__file__).resolve().parent.parent
START_S = 90
STOP_S = 30


@dataclass(frozen=True)
class Stack:
    """``api_key`` is the demo account's; ``log`` holds all that was printed."""

    url: str
    api_key: str
    data_dir: Path
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"


@contextmanager
def running_stack() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="helixflow-stack-", ignore_cleanup_errors=True) as folder:
        port = embedded.free_port()
        log = Path(folder) / "up.log"
        data_dir = Path(folder) / "data"
        own = {"HELIXFLOW_DATA_DIR": str(data_dir), "HELIXFLOW_PORT": str(port), "NO_COLOR": "1"}
        ours = ("DATABASE_URL", "REDIS_URL", "OPENAI_API_KEY")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "up", "--demo"],
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if name not in ours} | own,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _wait_for(log, "HelixFlow is up", process)
            demo = json.loads((data_dir / "secrets" / "demo.json").read_text())
            yield Stack(f"http://127.0.0.1:{port}", demo["api_key"], data_dir, process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(log: Path, text: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S
    while text not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"The stack did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.05)
