"""`make bench`: what the data plane costs, as ratios to nginx `proxy_pass` measured in the same minutes.

The proxy under test has one core; the load, the upstream, PostgreSQL and Valkey share another. Rounds alternate, so
that a noisy moment hits all; medians are compared. Absolute numbers are this machine's, the ratios travel.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from bench import gateway, litellm, nginx, paced, settled
from bench.load import Sample, Target, measure, verify
from bench.processes import ROOT, BenchError, Processes, cores, pinned, program
from helixflow.stack import embedded

CONNECTIONS = 32
PACED_STREAMS = 50  # at once: the core is never full, as what counts is what a chunk costs
PATIENCE = 3  # with streams that last a second
RESULTS = ROOT / "bench" / "results" / "latest.json"
PATH = "http://127.0.0.1:{}/{}/v1/chat/completions"
Rounds = dict[str, Sample]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=3, help="alternated rounds of each comparison (default 3)")
    parser.add_argument("--seconds", type=float, default=3, help="of each round (default 3)")
    parser.add_argument("--litellm", metavar="PROGRAM", help="LiteLLM's proxy, if it is not on the PATH")
    parser.add_argument("--hold", action="store_true", help="load the gateway until Ctrl-C, to attach a profiler")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it also stops what was started
    folder = Path(tempfile.mkdtemp(prefix="helixflow-bench-"))
    try:
        for needed in ("nginx", "wrk", "taskset", "setpriv"):
            program(needed)
        with Processes(folder / "output.log") as processes:
            Bench(processes, folder, options).run()
    except (BenchError, embedded.EmbeddedError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1  # the folder stays, with the output of what failed
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        return 130
    shutil.rmtree(folder, ignore_errors=True)
    return 0


class Bench:
    """Each relay is a target for whole answers and one for streams.

    ``answers`` are those that HelixFlow gave, ``cut`` how many more it may have been asked for.
    """

    def __init__(self, processes: Processes, folder: Path, options: argparse.Namespace) -> None:
        self.processes = processes
        self.folder = folder
        self.options = options
        self.core, self.other = cores()
        self.answers = self.cut = 0
        self.whole: list[Target] = []
        self.streams: list[Target] = []
        self.paced: list[Target] = []

    def run(self) -> None:
        self.start()
        for target in (self.direct, *self.whole, *self.streams, *self.paced):
            verify(target)
            self.answers += target.name == "helixflow"
        if self.options.hold:
            self.hold()
            return
        results = {
            "throughput": self.compare(self.whole, CONNECTIONS),
            "streams": self.compare(self.streams, CONNECTIONS),
            "paced": self.compare(self.paced, PACED_STREAMS),
            "latency": self.compare([self.direct, *self.whole], 1),
        }
        settled.events(at_least=self.answers)
        gateway.start_meter(self.processes, self.other)
        self.records()  # the backlog first, then what it costs to keep up
        metered = ("nginx", "helixflow")
        results["throughput, metered"] = self.compare([t for t in self.whole if t.name in metered], CONNECTIONS)
        results["streams, metered"] = self.compare([t for t in self.streams if t.name in metered], CONNECTIONS)
        for target in (*self.whole, *self.streams):
            verify(target)  # still right after the load
            self.answers += target.name == "helixflow"
        settled.events(at_least=self.answers)
        records = self.records()
        report(results)
        print(f"\nEach of {records:,} requests was admitted, settled and made one record.")
        save(results, self.options)

    def start(self) -> None:
        upstream_port, proxy_port, sketch_port, paced_port, paced_sketch_port = (embedded.free_port() for _ in range(5))
        upstream = f"http://127.0.0.1:{upstream_port}"
        upstream_pid = self.server(nginx.upstream(self.folder / "upstream", upstream_port), upstream_port, self.other)
        self.direct = Target("direct", PATH.format(upstream_port, "plain"), pid=upstream_pid)
        self.simple(nginx.proxy(self.folder / "proxy", proxy_port, upstream_port), "nginx", proxy_port)
        self.simple(sketch(sketch_port, upstream_port), "sketch", sketch_port)
        self.server([sys.executable, str(ROOT / "bench" / "paced.py"), str(paced_port)], paced_port, self.other)
        pid = self.server(sketch(paced_sketch_port, paced_port), paced_sketch_port, self.core)
        url = PATH.format(paced_sketch_port, "paced")
        self.paced.append(Target("sketch", url, stream=True, pid=pid, patience=PATIENCE))
        print("Starting HelixFlow …", flush=True)
        ours = gateway.start(
            self.processes,
            self.folder / "data",
            upstream=upstream,
            paced=f"http://127.0.0.1:{paced_port}",
            core=self.core,
            other_core=self.other,
        )
        target = Target("helixflow", ours.url, ours.key, pid=ours.pid)
        self.whole.append(target)
        self.streams.append(replace(target, model=gateway.STREAM_MODEL, stream=True))
        self.paced.append(replace(target, model=gateway.PACED_MODEL, stream=True, patience=PATIENCE))
        if (command := litellm.find(self.options.litellm)) and not self.options.hold:
            print("Starting LiteLLM …", flush=True)
            whole, stream = litellm.start(self.processes, command, self.folder, upstream=upstream, core=self.core)
            self.whole.append(whole)
            self.streams.append(stream)

    def simple(self, command: list[str], name: str, port: int) -> None:
        """A relay that passes the path on."""
        pid = self.server(command, port, self.core)
        self.whole.append(Target(name, PATH.format(port, "plain"), pid=pid))
        self.streams.append(Target(name, PATH.format(port, "sse"), stream=True, pid=pid))

    def server(self, command: list[str], port: int, core: int) -> int:
        process = self.processes.start(pinned(core, *command))
        self.processes.listening(process, port)
        return process.pid

    def compare(self, targets: list[Target], connections: int) -> Rounds:
        """The median sample of each target by name, A/B/A/B after a warm-up."""
        found: dict[str, list[Sample]] = {target.name: [] for target in targets}
        for target in targets:
            self.measure(target, connections, 1)
        for _ in range(self.options.rounds):
            for target in targets:
                found[target.name].append(self.measure(target, connections, self.options.seconds))
        return {name: median(samples) for name, samples in found.items()}

    def measure(self, target: Target, connections: int, seconds: float) -> Sample:
        sample = measure(target, core=self.other, connections=connections, seconds=seconds)
        if target.name == "helixflow":
            self.answers += sample.requests
            self.cut += connections
        return sample

    def records(self) -> int:
        """wrk leaves at the end of a run with a request under way on each connection."""
        return settled.records(at_least=self.answers, at_most=self.answers + self.cut)

    def hold(self) -> None:
        target = next(target for target in self.whole if target.name == "helixflow")
        print(f"Loading the gateway, web process {target.pid}; Ctrl-C ends it.", flush=True)
        while True:
            sample = self.measure(target, CONNECTIONS, 5)
            print(f"{sample.per_second:,.0f} requests/s, {sample.cpu_us:.0f} µs of CPU each", flush=True)


def sketch(port: int, upstream_port: int) -> list[str]:
    return [sys.executable, str(ROOT / "bench" / "sketch.py"), str(port), str(upstream_port)]


def median(samples: Iterable[Sample]) -> Sample:
    return Sample(*(statistics.median(values) for values in zip(*(asdict(s).values() for s in samples), strict=True)))


def report(results: dict[str, Rounds]) -> None:
    for title, group in (
        (f"Requests, {CONNECTIONS} connections, one core", "throughput"),
        ("  with the meter on the other core", "throughput, metered"),
        (f"Streams of {nginx.CHUNKS} chunks, {CONNECTIONS} connections", "streams"),
        ("  with the meter on the other core", "streams, metered"),
    ):
        print(f"\n{title:<44}  each/s   of nginx   of sketch   p50 ms   p99 ms   CPU µs")
        rounds = results[group]
        for name, sample in rounds.items():
            shares = [
                f"{sample.per_second / rounds[other].per_second:.1%}" if other in rounds else ""
                for other in ("nginx", "sketch")
            ]
            print(
                f"  {name:<40} {sample.per_second:>9,.0f} {shares[0]:>10} {shares[1]:>11}"
                f" {sample.p50_ms:>8.2f} {sample.p99_ms:>8.2f} {sample.cpu_us:>8.0f}"
            )
    every_ms = paced.EVERY_S * 1e3
    print(f"\n{f'Streams whose chunks come one by one, every {every_ms:.0f} ms':<87} CPU µs a chunk")
    for name, sample in results["paced"].items():
        share = results["paced"]["sketch"].cpu_us / sample.cpu_us
        print(f"  {name:<61}{share:>11.1%} {sample.cpu_us / nginx.CHUNKS:>27.1f}")
    print(f"\n{'Added latency, one connection, over direct':<76} p50 ms   p99 ms")
    direct, *others = results["latency"].items()
    for name, sample in others:
        print(f"  {name:<74}{sample.p50_ms - direct[1].p50_ms:>8.2f} {sample.p99_ms - direct[1].p99_ms:>8.2f}")


def save(results: dict[str, Rounds], options: argparse.Namespace) -> None:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    throughput = results["throughput"]
    found = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "load": os.getloadavg()[0],
        "rounds": options.rounds,
        "seconds": options.seconds,
        "ratio_to_nginx": throughput["helixflow"].per_second / throughput["nginx"].per_second,
        **{group: {name: asdict(sample) for name, sample in rounds.items()} for group, rounds in results.items()},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    print(f"Saved in {RESULTS}")


if __name__ == "__main__":
    sys.exit(main())
