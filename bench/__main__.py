"""`make bench`: what the data plane costs, as ratios to nginx `proxy_pass` measured in the same minute.

The proxy under test has one core; the load, the upstream, PostgreSQL and Valkey share another. Rounds alternate, so
that a noisy moment hits both; medians are compared. Absolute numbers are this machine's, the ratios travel.
"""

import argparse
import json
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bench import gateway, nginx
from bench.load import Sample, Target, measure, verify
from bench.processes import ROOT, BenchError, Processes, cores, pinned, program
from helixflow.stack import embedded

CONNECTIONS = 32
RESULTS = ROOT / "bench" / "results" / "latest.json"
Rounds = dict[str, Sample]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=3, help="alternated rounds of each comparison (default 3)")
    parser.add_argument("--seconds", type=float, default=3, help="of each round (default 3)")
    parser.add_argument("--hold", action="store_true", help="load the gateway until Ctrl-C, to attach a profiler")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it also stops what was started
    folder = Path(tempfile.mkdtemp(prefix="helixflow-bench-"))
    try:
        for needed in ("nginx", "wrk", "taskset", "setpriv"):
            program(needed)
        with Processes(folder / "output.log") as processes:
            run(processes, folder, options)
    except (BenchError, embedded.EmbeddedError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1  # the folder stays, with the output of what failed
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        return 130
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def run(processes: Processes, folder: Path, options: argparse.Namespace) -> None:
    core, other = cores()
    upstream_port, proxy_port = embedded.free_port(), embedded.free_port()
    upstream = processes.start(pinned(other, *nginx.upstream(folder / "upstream", upstream_port)))
    proxy = processes.start(pinned(core, *nginx.proxy(folder / "proxy", proxy_port, upstream_port)))
    processes.listening(upstream, upstream_port)
    processes.listening(proxy, proxy_port)
    print("Starting HelixFlow …", flush=True)
    ours = gateway.start(
        processes, folder / "data", upstream=f"http://127.0.0.1:{upstream_port}", core=core, other_core=other
    )
    base = "http://127.0.0.1:{}/{}/v1/chat/completions"
    direct = Target("direct", base.format(upstream_port, "plain"))
    plain = Target("nginx", base.format(proxy_port, "plain"))
    helixflow = Target("helixflow", ours.url, ours.key)
    plain_stream = Target("nginx", base.format(proxy_port, "sse"), stream=True)
    stream = Target("helixflow", ours.url, ours.key, gateway.STREAM_MODEL, stream=True)
    for target in (direct, plain, helixflow, plain_stream, stream):
        verify(target)
    if options.hold:
        hold(helixflow, ours.pid, other)
        return

    def compare(targets: list[Target], connections: int) -> Rounds:
        for target in targets:
            measure(target, core=other, connections=connections, seconds=1)
        return alternate(
            targets,
            options.rounds,
            lambda target: measure(target, core=other, connections=connections, seconds=options.seconds),
        )

    throughput = compare([plain, helixflow], CONNECTIONS)
    latency = compare([direct, plain, helixflow], 1)
    streams = compare([plain_stream, stream], CONNECTIONS)
    for target in (helixflow, stream):
        verify(target)  # still right after the load
    report(throughput, latency, streams)
    save(throughput, latency, streams, options)


def alternate(targets: list[Target], rounds: int, sample: Callable[[Target], Sample]) -> Rounds:
    """The median sample of each target by name, A/B/A/B."""
    found: dict[str, list[Sample]] = {target.name: [] for target in targets}
    for _ in range(rounds):
        for target in targets:
            found[target.name].append(sample(target))
    return {
        name: Sample(
            *(statistics.median(values) for values in zip(*(asdict(s).values() for s in samples), strict=True))
        )
        for name, samples in found.items()
    }


def hold(target: Target, pid: int, core: int) -> None:
    print(f"Loading the gateway, web process {pid}; Ctrl-C ends it.", flush=True)
    while True:
        sample = measure(target, core=core, connections=CONNECTIONS, seconds=5)
        print(f"{sample.per_second:,.0f} requests/s", flush=True)


def report(throughput: Rounds, latency: Rounds, streams: Rounds) -> None:
    nginx_rate, our_rate = throughput["nginx"].per_second, throughput["helixflow"].per_second
    print(f"\nRequests, {CONNECTIONS} connections, one core        requests/s    of nginx   p50 ms   p99 ms")
    for name, sample in throughput.items():
        share = sample.per_second / nginx_rate
        print(f"  {name:<40} {sample.per_second:>12,.0f} {share:>11.1%} {sample.p50_ms:>8.2f} {sample.p99_ms:>8.2f}")
    print("\nAdded latency, one connection, over direct                          p50 ms   p99 ms")
    direct = latency["direct"]
    for name in ("nginx", "helixflow"):
        sample = latency[name]
        print(f"  {name:<40} {'':>24} {sample.p50_ms - direct.p50_ms:>8.2f} {sample.p99_ms - direct.p99_ms:>8.2f}")
    print(f"\nStreams of {nginx.CHUNKS} chunks, {CONNECTIONS} connections       streams/s    of nginx")
    for name, sample in streams.items():
        share = sample.per_second / streams["nginx"].per_second
        print(f"  {name:<40} {sample.per_second:>12,.0f} {share:>11.1%}")
    print(f"\nHelixFlow serves {our_rate / nginx_rate:.1%} of nginx's requests on one core. Saved in {RESULTS}")


def save(throughput: Rounds, latency: Rounds, streams: Rounds, options: argparse.Namespace) -> None:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    groups = {"throughput": throughput, "latency": latency, "streams": streams}
    found = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "ratio_to_nginx": throughput["helixflow"].per_second / throughput["nginx"].per_second,
        **{group: {name: asdict(sample) for name, sample in rounds.items()} for group, rounds in groups.items()},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
