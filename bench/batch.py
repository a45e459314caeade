"""`python -m bench.batch`: how fast one worker process works off a batch, and what a request costs there.

Web, batcher, PostgreSQL that syncs its commits, Valkey; the upstream answers at once. Beside it the same requests asked
directly, over as many connections, by threads of this process. Processor time is that of web and batcher.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import urllib3

from bench import gateway, nginx
from bench.processes import ROOT, BenchError, Processes, cores, pinned
from helixflow.stack import embedded

PARALLEL = 8  # as HELIXFLOW_BATCH_PARALLEL
PATIENCE_S = 600
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.batch", description=__doc__, allow_abbrev=False)
    parser.add_argument("--requests", type=int, default=5_000, help="of the batch (default 5,000)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="helixflow-bench-"))
    try:
        with Processes(folder / "output.log") as processes:
            run(processes, folder, options.requests)
    except (BenchError, embedded.EmbeddedError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1  # the folder stays, with the output of what failed
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def run(processes: Processes, folder: Path, requests: int) -> None:
    core, other = cores()
    port = embedded.free_port()
    process = processes.start(pinned(other, *nginx.upstream(folder / "upstream", port)))
    processes.listening(process, port)
    upstream = f"http://127.0.0.1:{port}"
    ours = gateway.start(processes, folder / "data", upstream=upstream, paced=upstream, core=core, other_core=other)
    os.environ["HELIXFLOW_BATCH_URL"] = ours.url.removesuffix("/v1/chat/completions")
    worker = ["worker", "--queues=batches", "--hostname=batcher@%h", "--pool=threads", "--concurrency=16"]
    celery = [sys.executable, "-m", "celery", "-q", "--workdir", str(ROOT), "-A", "helixflow", *worker]
    batcher = processes.start([*celery, "--without-gossip", "--without-mingle", "--loglevel=WARNING"]).pid
    direct(ours, 200)
    before = cpu_s(ours.pid)
    took_s = direct(ours, requests)
    report("asked directly", requests, took_s, web=cpu_s(ours.pid) - before)
    batch = make(requests)
    settled(batch, 1)
    before, before_batcher = cpu_s(ours.pid), cpu_s(batcher)
    began, first = time.monotonic(), batch.settled
    settled(batch, requests)
    took_s = time.monotonic() - began
    done = requests - first
    report("in a batch", done, took_s, web=cpu_s(ours.pid) - before, batcher=cpu_s(batcher) - before_batcher)


def direct(ours: Any, requests: int) -> float:
    pool = urllib3.PoolManager(maxsize=PARALLEL)
    headers = {"Authorization": f"Bearer {ours.key}", "Content-Type": "application/json"}
    body = b'{"model":"%b","messages":[{"role":"user","content":"Hello, world!"}]}' % nginx.MODEL.encode()

    def ask(_: int) -> None:
        if pool.request("POST", ours.url, body=body, headers=headers).status != 200:
            raise BenchError("a request was not answered with 200")

    began = time.monotonic()
    with ThreadPoolExecutor(PARALLEL) as threads:
        list(threads.map(ask, range(requests)))
    return time.monotonic() - began


def make(requests: int) -> Any:
    from accounts.models import ApiKey
    from inference.batch import batches, lines
    from inference.batch_models import Operation

    key = ApiKey.objects.get(is_playground=False)
    body = b'{"model":"%b","messages":[{"role":"user","content":"Hello, world!"}]}' % nginx.MODEL.encode()
    given = [lines.parse_inline(body, number, Operation.CHAT) for number in range(requests)]
    return batches.create_inline(
        organization_id=key.organization_id, api_key_id=key.id, requests=given, operation=Operation.CHAT
    )


def settled(batch: Any, least: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while batch.settled < least:
        if time.monotonic() > deadline or batch.failed:
            raise BenchError(f"{batch.status}: {batch.completed} completed, {batch.failed} failed of {batch.total}")
        time.sleep(0.05)
        batch.refresh_from_db()


def cpu_s(pid: int) -> float:
    """Of a process and its threads, so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def report(what: str, requests: int, took_s: float, **cpu: float) -> None:
    each = ", ".join(f"{name} {seconds / requests * 1e6:,.0f} µs" for name, seconds in cpu.items())
    print(f"{what:<16} {requests / took_s:>7,.0f} requests/s   CPU of each: {each}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
