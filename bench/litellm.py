"""LiteLLM's proxy as it is measured beside HelixFlow, where it is installed: one worker, one key, no database."""

import json
import os
import shutil
from pathlib import Path

from bench.load import Target
from bench.nginx import MODEL
from bench.processes import BenchError, Processes, pinned
from helixflow.stack import embedded

STREAM_MODEL = f"{MODEL}-sse"
KEY = "sk-" + "0" * 32
START_S = 120
PATIENCE = 8  # at a few streams a second the first of 32 takes seconds


def find(command: str | None) -> str | None:
    """The program: ``command`` itself, or what is on the PATH. Raises BenchError for a ``command`` that isn't there."""
    found = shutil.which(command or "litellm")
    if command and found is None:
        raise BenchError(f"There is no program {command}.")
    return found


def start(processes: Processes, command: str, folder: Path, *, upstream: str, core: int) -> tuple[Target, Target]:
    """As a target for whole answers and one for streams."""
    port = embedded.free_port()
    models = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{MODEL}", "api_base": f"{upstream}/{path}/v1", "api_key": "none"},
        }
        for name, path in ((MODEL, "plain"), (STREAM_MODEL, "sse"))
    ]
    config = folder / "litellm.yaml"
    config.write_text(json.dumps({"model_list": models}))  # JSON is YAML
    arguments = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    environment = os.environ | {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": KEY,
    }
    environment.pop("DATABASE_URL", None)  # HelixFlow's, by now
    process = processes.start(pinned(core, command, *arguments), environment=environment)
    processes.listening(process, port, seconds=START_S)
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    return (
        Target("litellm", url, KEY, pid=process.pid, patience=PATIENCE),
        Target("litellm", url, KEY, STREAM_MODEL, stream=True, pid=process.pid, patience=PATIENCE),
    )
