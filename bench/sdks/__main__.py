"""`python -m bench.sdks`: what each SDK costs beside the official openai package of its language, in one run.

Size and dependencies as installed; the start of fresh processes, in turns; and then calls and streams against a server
that answers with fixed bytes, ours and theirs in alternating rounds on one core while the server has another.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from bench.processes import ROOT, BenchError, cores, pinned
from bench.sdks.installs import LANGUAGES, Installed
from bench.sdks.server import CHUNKS

PACKAGES: Final = ("helixflow", "openai")
RESULTS: Final = ROOT / "bench" / "results" / "sdks.json"
KEPT: Final = ("PATH", "HOME", "LANG", "TMPDIR")  # neither OPENAI_… nor HELIXFLOW_… settings


def environment() -> dict[str, str]:
    return {name: os.environ[name] for name in KEPT if name in os.environ} | {"PYTHONDONTWRITEBYTECODE": "1"}


def started(command: list[str], folder: Path, core: int) -> dict[str, float]:
    """What a process took from its start to its end, in ms."""
    before = time.perf_counter()
    process = subprocess.Popen(pinned(core, *command), cwd=folder, env=environment())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - before
    if process.returncode:
        raise BenchError(f"{command} ended with code {process.returncode}")
    return {"wall": wall * 1e3, "cpu": (usage.ru_utime + usage.ru_stime) * 1e3}


def starts(pair: dict[str, Installed], base_url: str, core: int, processes: int) -> dict[str, Any]:
    """Medians of fresh processes, by package and mode, each after one that warms the disk's cache."""
    modes = ("bare", "import", "first")
    seen: dict[str, dict[str, list[dict[str, float]]]] = {name: {mode: [] for mode in modes} for name in pair}
    for turn in range(processes + 1):
        for mode in modes:
            for name, installed in pair.items():
                took = started(installed.command(mode, base_url), installed.folder, core)
                if turn:
                    seen[name][mode].append(took)
    return {
        name: {
            mode: {what: statistics.median(each[what] for each in taken) for what in ("wall", "cpu")}
            for mode, taken in by_mode.items()
        }
        for name, by_mode in seen.items()
    }


class Client:
    """A process that calls when told."""

    def __init__(self, stack: ExitStack, installed: Installed, base_url: str, core: int) -> None:
        command = pinned(core, *installed.command("serve", base_url))
        self._process = stack.enter_context(
            subprocess.Popen(
                command,
                cwd=installed.folder,
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert self._process.stdin
        stack.callback(self._process.stdin.close)

    def take(self, what: str, count: int) -> dict[str, float]:
        """Seconds by the clock and of the processor."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{what} {count}\n")
        self._process.stdin.flush()
        took: dict[str, float] = json.loads(self._process.stdout.readline() or "{}")
        expected = count * (CHUNKS if what == "streams" else 1)
        if took.get("done") != expected:
            raise BenchError(f"{took.get('done')} of {expected} {what} came back")
        return took

    def memory(self) -> float:
        """The most it had so far, in MiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


def overheads(pair: dict[str, Installed], base_url: str, core: int, *, rounds: int, calls: int) -> dict[str, Any]:
    """Medians in µs, of a call and of a chunk of a stream, and the memory that all of them took."""
    streams = max(1, calls // 10)
    seen: dict[str, dict[str, list[float]]] = {name: {} for name in pair}
    with ExitStack() as stack:
        clients = {name: Client(stack, installed, base_url, core) for name, installed in pair.items()}
        for turn in range(rounds + 1):
            for name, client in clients.items():
                for what, count in (("calls", calls), ("streams", streams)):
                    took = client.take(what, count)
                    for kind in ("wall", "cpu"):
                        if turn:
                            each = took[f"{kind}_s"] / took["done"] * 1e6
                            seen[name].setdefault(f"{what}_{kind}", []).append(each)
        for name, client in clients.items():
            seen[name]["memory"] = [client.memory()]
    return {name: {what: statistics.median(taken) for what, taken in by.items()} for name, by in seen.items()}


def table(language: str, found: dict[str, Any]) -> str:
    """Markdown: ours, theirs, and what part of theirs ours is."""
    ours, theirs = (found[name] for name in PACKAGES)

    def row(what: str, unit: str, digits: int, *path: str) -> str:
        one, other = ours, theirs
        for name in path:
            one, other = one[name], other[name]
        return f"| {what} | {one:,.{digits}f} {unit} | {other:,.{digits}f} {unit} | {one / other:.2f} |"

    lines = [
        f"| {language} | helixflow {ours['version']} | openai {theirs['version']} | ours of theirs |",
        "| --- | --- | --- | --- |",
        row("installed" if language != "go" else "adds to a program", "kB", 0, "size_kb"),
        f"| dependencies | {len(ours['dependencies'])} | {len(theirs['dependencies'])} | |",
        row("empty process", "ms", 1, "starts", "bare", "wall"),
        row("start and client", "ms", 1, "starts", "import", "wall"),
        row("… processor", "ms", 1, "starts", "import", "cpu"),
        row("start to first answer", "ms", 1, "starts", "first", "wall"),
        row("… processor", "ms", 1, "starts", "first", "cpu"),
        row("call", "µs", 0, "overheads", "calls_wall"),
        row("… processor", "µs", 0, "overheads", "calls_cpu"),
        row("chunk of a stream", "µs", 2, "overheads", "streams_wall"),
        row("… processor", "µs", 2, "overheads", "streams_cpu"),
        row("memory at most", "MiB", 1, "overheads", "memory"),
    ]
    return "\n".join(lines)


def measure(language: str, base_url: str, core: int, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    pair = {}
    for name in PACKAGES:
        own = folder / f"{language}-{name}"
        own.mkdir()
        pair[name] = LANGUAGES[language](name, own)
    started_by = starts(pair, base_url, core, options.processes)
    overhead_of = overheads(pair, base_url, core, rounds=options.rounds, calls=options.calls)
    return {
        name: {
            "version": installed.version,
            "size_kb": installed.size / 1e3,
            "dependencies": installed.dependencies,
            "starts": started_by[name],
            "overheads": overhead_of[name],
        }
        for name, installed in pair.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("languages", nargs="*", default=[*LANGUAGES], help="python, javascript, go (all)")
    parser.add_argument("--processes", type=int, default=15, help="fresh processes of each kind (15)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each package (15)")
    parser.add_argument("--calls", type=int, default=150, help="calls in a round, and ten times fewer streams (150)")
    options = parser.parse_args()
    measured, other = cores()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="helixflow-bench-sdks-") as folder, ExitStack() as stack:
        server = stack.enter_context(
            subprocess.Popen(
                pinned(other, sys.executable, "-m", "bench.sdks.server"), cwd=ROOT, stdout=subprocess.PIPE, text=True
            )
        )
        stack.callback(server.terminate)
        assert server.stdout
        base_url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        for language in options.languages:
            try:
                results[language] = measure(language, base_url, measured, options, Path(folder))
                print(f"\n{table(language, results[language])}", flush=True)
            except (BenchError, OSError) as error:
                results[language] = {"left_out": str(error)}
                print(f"\n{language} is left out: {error}", flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2))
    print(f"\n{RESULTS.relative_to(ROOT)} has all numbers.")
    return 1 if any("left_out" in found for found in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
