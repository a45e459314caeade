"""Where the time of one request went, as bars below each other. Pure, but for the record it reads."""

from dataclasses import dataclass
from typing import Final

from billing.models import UsageRecord

LEAST: Final = 0.4  # percent of the width that a bar is drawn with at least


@dataclass(frozen=True, slots=True)
class Bar:
    """``x`` and ``width`` in percent of the request's duration. ``kind``: own, ok, failed or answer."""

    label: str
    note: str
    kind: str
    start_ms: float
    duration_ms: float
    x: float
    width: float


def bars(record: UsageRecord) -> list[Bar]:
    """What came before the attempts, the attempts in order, and the answer from its first token on.

    An attempt is recorded with its duration alone. They follow each other, and the last one ends with the first token
    of a stream, or with the request: the rest of the time is the platform's own, reading and admitting it for the most.
    """
    total = max(record.duration_ms, 0.001)
    tried = sum(attempt["duration_ms"] for attempt in record.attempts)
    answered_ms = record.first_token_ms if record.first_token_ms is not None else total
    at = max(0.0, min(answered_ms, total) - tried) if record.attempts else total
    found = [_bar("HelixFlow", "read, admitted, routed", "own", (0.0, at), total)]
    for attempt in record.attempts:
        duration = min(float(attempt["duration_ms"]), max(0.0, total - at))
        ok = attempt["outcome"] == "ok"
        found.append(_bar(attempt["deployment"], attempt["outcome"], "ok" if ok else "failed", (at, duration), total))
        at += duration
    if record.first_token_ms is not None and record.first_token_ms < total:
        found.append(
            _bar("Answer", "streamed", "answer", (record.first_token_ms, total - record.first_token_ms), total)
        )
    return found


def _bar(label: str, note: str, kind: str, span_ms: tuple[float, float], total_ms: float) -> Bar:
    start_ms, duration_ms = span_ms
    width = max(LEAST, 100 * duration_ms / total_ms)
    x = min(100 * start_ms / total_ms, 100 - LEAST)
    return Bar(label, note, kind, start_ms, duration_ms, round(x, 2), round(min(width, 100 - x), 2))
