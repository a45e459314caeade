"""wrk as the load, and one look at an answer before it counts: a fast wrong answer is a failure of the run."""

import json
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from bench.nginx import CHUNKS, MODEL
from bench.processes import BenchError, pinned, program

_SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True)
class Target:
    name: str
    url: str
    key: str = ""
    model: str = MODEL
    stream: bool = False
    pid: int = 0  # of the process that answers
    patience: int = 1  # how many times longer its rounds are

    def body(self) -> str:
        body: dict[str, object] = {"model": self.model, "messages": [{"role": "user", "content": "Hello, world!"}]}
        if self.stream:
            body["stream"] = True
        return json.dumps(body)


@dataclass(frozen=True)
class Sample:
    """``cpu_us``: what the process spent on a request, which a busy machine disturbs less than the rate."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def measure(target: Target, *, core: int, connections: int, seconds: float) -> Sample:
    """Drive ``target`` from ``core``, ``seconds`` times its patience.

    Raises BenchError if anything but a 200 came back or a stream was short.
    """
    seconds *= target.patience
    arguments = [program("wrk"), "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s", "-s", str(_SCRIPT)]
    spent = -_cpu_seconds(target.pid)
    done = subprocess.run(
        pinned(core, *arguments, target.url, "--", target.body(), target.key),
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=False,
    )
    spent += _cpu_seconds(target.pid)
    if done.returncode:
        raise BenchError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    found = json.loads(done.stdout[done.stdout.rindex("RESULT ") + len("RESULT ") :])
    wrong = {what: found[what] for what in ("status", "connect", "read", "write", "timeout") if found[what]}
    if wrong or not found["requests"]:
        raise BenchError(f"{target.name}: {found['requests']} requests, errors {wrong}")
    if target.stream and found["bytes"] / found["requests"] < CHUNKS * 100:
        raise BenchError(f"{target.name}: streams are cut short, {found['bytes'] / found['requests']:.0f} bytes each")
    return Sample(
        requests=found["requests"],
        per_second=found["requests"] / found["duration_us"] * 1e6,
        p50_ms=found["p50_us"] / 1e3,
        p99_ms=found["p99_us"] / 1e3,
        cpu_us=spent / found["requests"] * 1e6,
    )


def _cpu_seconds(pid: int) -> float:
    """User and system time of all its threads, to the nanosecond, where the system tells (Linux)."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat") if pid else ()
    return sum(int(each.read_text().split()[0]) for each in threads) / 1e9


def verify(target: Target) -> None:
    """Raises BenchError unless one answer is what a caller should get."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {target.key}"}
    request = urllib.request.Request(target.url, target.body().encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            text = response.read().decode()
    except OSError as error:
        body = error.read().decode() if isinstance(error, urllib.error.HTTPError) else ""
        raise BenchError(f"{target.name}: {error} {body}") from None
    if target.stream:
        frames = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
        chunks = [json.loads(frame) for frame in frames[:-1]]
        said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])
        right = frames[-1] == "[DONE]" and said == "".join(f"word{i} " for i in range(CHUNKS - 1))
    else:
        right = json.loads(text)["choices"][0]["message"]["content"] == "Hello! How can I help you today?"
    if not right:
        raise BenchError(f"{target.name}: a wrong answer: {text[:300]}")
