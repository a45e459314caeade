"""What this process counts for Prometheus; ``helixflow.server.metrics`` adds the processes up and answers `/metrics`.

Counting is plain dictionaries: about a microsecond for a whole request, half of what one increment costs in
prometheus_client's multi-process mode. ``fold`` writes them to this process's file, once a second or so. The file is
of our own making too: prometheus_client maps its files into memory, and a full disk then ends the process (SIGBUS).

``observe``, ``in_flight``, ``upstream`` and ``retries`` are for the event loop's thread alone; the rest may be called
from any.
"""

import logging
import threading
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

logger = logging.getLogger(__name__)

OTHER: Final = "other"
BUCKETS_MS: Final = (
    *(5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0),
    *(1e3, 2.5e3, 5e3, 10e3, 30e3, 60e3, 120e3, 300e3, 600e3),
)
SUFFIX: Final = ".counts"
MAX_NAMES: Final = 1_000  # of a kind that a process takes as labels: whatever slips through, memory stays bounded

Key = TypeVar("Key")


class Histogram(msgspec.Struct, array_like=True):
    """``counts`` of each bucket by itself, the last for what is longer than all; ``total_ms`` of what was counted."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BUCKETS_MS) + 1))
    total_ms: float = 0.0

    def add(self, milliseconds: float) -> None:
        self.counts[bisect_left(BUCKETS_MS, milliseconds)] += 1
        self.total_ms += milliseconds

    def merge(self, other: "Histogram") -> None:
        self.counts = [ours + theirs for ours, theirs in zip(self.counts, other.counts, strict=True)]
        self.total_ms += other.total_ms


class Gauges(msgspec.Struct):
    in_flight: int = 0
    settle_queue: int = 0
    spool_bytes: int = 0
    breaker_open: int = 0

    def merge(self, other: "Gauges") -> None:
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Upstream(msgspec.Struct):
    """Attempts at one deployment by how they ended, and how long it took to answer. ``cut_off``: 1 while it is."""

    answered: int = 0
    failed: int = 0
    limited: int = 0
    left: int = 0
    latency: Histogram = msgspec.field(default_factory=Histogram)
    cut_off: int = 0

    def merge(self, other: "Upstream") -> None:
        self.answered += other.answered
        self.failed += other.failed
        self.limited += other.limited
        self.left += other.left
        self.latency.merge(other.latency)
        self.cut_off = max(self.cut_off, other.cut_off)


class Retries(msgspec.Struct):
    made: int = 0
    refused: int = 0

    def merge(self, other: "Retries") -> None:
        self.made += other.made
        self.refused += other.refused


class Counts(msgspec.Struct):
    """Everything that one process has counted, and the whole content of its file."""

    requests: dict[tuple[str, int, str], int] = {}  # model, status, code
    durations: dict[tuple[str, bool], Histogram] = {}  # model, streamed
    first_tokens: dict[str, Histogram] = {}  # model
    tokens: dict[tuple[str, str], int] = {}  # model, class
    refusals: dict[str, int] = {}  # reason
    upstreams: dict[tuple[str, str], Upstream] = {}  # model, deployment
    retries: dict[str, Retries] = {}  # model
    contents_dropped: int = 0
    gauges: Gauges = msgspec.field(default_factory=Gauges)

    def merge(self, other: "Counts") -> None:
        _add_up(self.requests, other.requests)
        _add_up(self.tokens, other.tokens)
        _add_up(self.refusals, other.refusals)
        _merge(self.durations, other.durations)
        _merge(self.first_tokens, other.first_tokens)
        for names, upstream in other.upstreams.items():
            self.upstreams.setdefault(names, Upstream()).merge(upstream)
        for model, retries in other.retries.items():
            self.retries.setdefault(model, Retries()).merge(retries)
        self.contents_dropped += other.contents_dropped
        self.gauges.merge(other.gauges)


def _add_up(ours: dict[Key, int], theirs: dict[Key, int]) -> None:
    for key, count in theirs.items():
        ours[key] = ours.get(key, 0) + count


def _merge(ours: dict[Key, Histogram], theirs: dict[Key, Histogram]) -> None:
    for key, histogram in theirs.items():
        ours.setdefault(key, Histogram()).merge(histogram)


encode: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder(Counts).decode


class _Names:
    """The values one label may have here. A name that is refused, or one too many, is counted as "other"."""

    def __init__(self, allowed: Callable[[str], bool]) -> None:
        self.allowed = allowed
        self._taken: set[str] = set()

    def label(self, name: str) -> str:
        if name in self._taken:
            return name
        if not name:
            return ""
        if len(self._taken) >= MAX_NAMES or not self.allowed(name):
            return OTHER
        self._taken.add(name)
        return name


class _Process:
    def __init__(self) -> None:
        self.counts = Counts()
        self.models = _Names(lambda _: True)
        self.file: Path | None = None
        self.failing = False
        self.counting = threading.Lock()
        self.writing = threading.Lock()  # of its own: nobody who counts may wait for a disk


_process = _Process()


def observe(
    *,
    model: str,
    status: int,
    code: str,
    streamed: bool,
    duration_ms: float,
    first_token_ms: float | None,
    tokens: tuple[tuple[str, int], ...],
) -> None:
    """One settled request. ``code`` is empty for a success; ``tokens`` are disjoint (class, count) pairs."""
    counts = _process.counts
    model = _process.models.label(model)
    requests = counts.requests
    key = (model, status, code)
    requests[key] = requests.get(key, 0) + 1
    durations = counts.durations.get((model, streamed))
    if durations is None:
        durations = counts.durations[model, streamed] = Histogram()
    durations.add(duration_ms)
    if first_token_ms is not None:
        first_tokens = counts.first_tokens.get(model)
        if first_tokens is None:
            first_tokens = counts.first_tokens[model] = Histogram()
        first_tokens.add(first_token_ms)
    totals = counts.tokens
    for name, count in tokens:
        if count:
            totals[model, name] = totals.get((model, name), 0) + count


def refused(reason: str) -> None:
    """Admission said no. Also called from Django's threads, hence the lock."""
    refusals = _process.counts.refusals
    with _process.counting:
        refusals[reason] = refusals.get(reason, 0) + 1


def contents_dropped(count: int) -> None:
    """Contents that an organization wanted stored, and that were not. On the event loop."""
    _process.counts.contents_dropped += count


def in_flight(delta: int) -> None:
    _process.counts.gauges.in_flight += delta


def upstream(model: str, deployment: str) -> Upstream:
    """To be counted in directly, on the event loop. Names are those of the catalogue."""
    upstreams = _process.counts.upstreams
    names = (model, deployment)
    if names not in upstreams and len(upstreams) >= MAX_NAMES:
        names = (OTHER, OTHER)
    return upstreams.setdefault(names, Upstream())


def retries(model: str) -> Retries:
    """The same for the retries of a model's requests."""
    found = _process.counts.retries
    return found.setdefault(model if model in found or len(found) < MAX_NAMES else OTHER, Retries())


def set_gauges(
    *, settle_queue: int | None = None, spool_bytes: int | None = None, breaker_open: bool | None = None
) -> None:
    """What is left out stays as it was."""
    gauges = _process.counts.gauges
    if settle_queue is not None:
        gauges.settle_queue = settle_queue
    if spool_bytes is not None:
        gauges.spool_bytes = spool_bytes
    if breaker_open is not None:
        gauges.breaker_open = int(breaker_open)


def fold() -> None:
    """Write what was counted to this process's file. It waits for the disk: call it from a thread.

    A failure is logged once and costs nothing but freshness: the next file that can be written has all of it.
    """
    with _process.writing:
        if _process.file is None:
            return
        try:
            # One call into C that meets no Python: no other thread can change the dictionaries meanwhile.
            content = encode(_process.counts)
            new = _process.file.with_suffix(".new")
            new.write_bytes(content)
            new.replace(_process.file)
        except OSError as error:
            if not _process.failing:
                logger.error("metrics cannot be written, and stand still until they can: %s", error)  # noqa: TRY400  # no trace
            _process.failing = True
        else:
            _process.failing = False


def share(file: Path) -> None:
    """Fold into ``file`` from now on, and go on from what it holds: the counts of a process that this one replaces.

    Counters never go backwards that way and nothing of the dead piles up; their gauges start at nothing again.
    """
    before = _load(file)
    before.gauges = Gauges()
    for upstream in before.upstreams.values():
        upstream.cut_off = 0
    with _process.writing:
        _process.counts.merge(before)
        _process.file = file
    fold()


def _load(file: Path) -> Counts:
    try:
        return decode(file.read_bytes())
    except FileNotFoundError:
        return Counts()
    except (OSError, msgspec.MsgspecError) as error:
        logger.error("metrics of a former process are lost: %s", error)  # noqa: TRY400  # a trace says no more
        return Counts()


def total() -> Counts:
    """Of all processes that share a directory with this one; of this one alone if it shares none."""
    fold()
    if _process.file is None:
        return decode(encode(_process.counts))
    counts = Counts()
    for file in sorted(_process.file.parent.glob(f"*{SUFFIX}")):
        counts.merge(_load(file))
    return counts


def name_models(known: Callable[[str], bool]) -> None:
    """``known`` says which names of models may become labels. It is asked until it says yes, and then no more."""
    _process.models = _Names(known)
