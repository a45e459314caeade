"""Charts as plain geometry: what to draw where. Pure; ``{% chart %}`` draws it (docs/design.md shows how).

A plot is as wide as its place: across, it is ``WIDTH`` units that stretch, down it is pixels, and text never stretches.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import zip_longest
from typing import Final

Value = int | float | Decimal | None

WIDTH: Final = 1000.0
SERIES: Final = 7  # beside "Other"
OTHER: Final = 0  # its slot
MOST_TICKS: Final = 5
MOST_LABELS: Final = 8  # below the plot; on phones every other one
DENSE: Final = 70  # from this many on there is no room for gaps between bars
LEAST_PX: Final = 1.0  # of a bar that is not nothing
HEADROOM_PX: Final = 8.0
SPARK_WIDTH: Final = 100.0
SPARK_HEIGHT: Final = 28.0
_TEXT_PX: Final = 7.2  # a character of the axis

OK: Final = "ok"
DEGRADED: Final = "degraded"
DOWN: Final = "down"
UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Unit:
    """How numbers are told: ``cell`` in full, ``tick`` on the axis. ``whole``: no tick between two whole numbers."""

    cell: Callable[[Value], str]
    tick: Callable[[float], str]
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """``values``: one a label, None where nothing was measured. ``slot``: its colour, 1 to 7, else by its name."""

    name: str
    values: Sequence[Value]
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """``short`` below the plot, empty where no tick may stand; ``long`` in the table and beside the pointer."""

    short: str
    long: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A line across: ``y`` in pixels from the top."""

    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A word below the plot: ``x`` in percent. ``wide``: not on phones."""

    x: float
    text: str
    wide: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """One series as the ``d`` of a path. ``dots``: what has a gap on both sides, as lines of no length."""

    name: str
    slot: int
    path: str
    dots: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """``rows``: the same numbers, a row a label: its long form, then a text for each of ``shapes``."""

    kind: str  # bars, lines
    title: str
    description: str
    height: float
    shapes: tuple[Shape, ...]
    ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    axis_width: int
    width: float = WIDTH

    @property
    def dense(self) -> bool:
        return len(self.rows) >= DENSE

    @property
    def legend(self) -> bool:
        return len(self.shapes) > 1


@dataclass(frozen=True, slots=True)
class Sparkline:
    title: str
    line: str
    area: str
    width: float = SPARK_WIDTH
    height: float = SPARK_HEIGHT


@dataclass(frozen=True, slots=True)
class Day:
    """``state``: OK, DEGRADED, DOWN or UNKNOWN. ``text`` says what was, such as ``99.95% available``."""

    state: str
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Days:
    """``bars``: x, state and day of each; every bar is ``bar`` units wide of ``width``."""

    title: str
    bars: tuple[tuple[float, Day], ...]
    bar: float
    width: float = WIDTH
    height: float = 34.0


# Units


def count(value: Value) -> str:
    """``1,234``; an en dash where there is none."""
    return "–" if value is None else f"{value:,.0f}"


def compact(value: float) -> str:
    """``950``, ``1.2k``, ``3.4M``: for axes, where room is short."""
    for size, suffix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.4g}"


def milliseconds(value: Value) -> str:
    """``0.8 ms``, ``350 ms``, ``1.25 s``; an en dash where there is none."""
    if value is None:
        return "–"
    ms = float(value)
    if ms >= 1000:
        return f"{ms / 1000:,.2f} s" if ms < 100_000 else f"{ms / 1000:,.0f} s"
    return f"{ms:.0f} ms" if ms >= 10 or ms == 0 else f"{ms:.1f} ms"


def _ms_tick(value: float) -> str:
    return f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms"


def _plain(value: float) -> str:
    return f"{value:.12f}".rstrip("0").rstrip(".") if 0 < abs(value) < 1000 else compact(value)


COUNT: Final = Unit(count, compact, whole=True)
MILLISECONDS: Final = Unit(milliseconds, _ms_tick)


def amount(cell: Callable[[Value], str]) -> Unit:
    """Money, and what else has its own words: ``cell`` tells a value; the axis has plain decimals."""
    return Unit(cell, _plain)


# Labels


def time_labels(moments: Sequence[datetime], bucket: str) -> list[Label]:
    """``moments``: the beginnings of buckets in UTC. ``bucket``: hour, day or month."""
    if bucket == "month":
        return [Label(f"{at:%b}" + (f" {at.year}" if at.month == 1 else ""), f"{at:%B %Y}") for at in moments]
    if bucket == "day":
        return [Label(f"{at.day} {at:%b}", f"{at:%a} {at.day} {at:%b %Y}") for at in moments]
    of_days = len(moments) > 48
    return [Label(_hour(at, of_days=of_days), f"{at.day} {at:%b %Y, %H:%M} UTC") for at in moments]


def _hour(at: datetime, *, of_days: bool) -> str:
    if at.hour == 0:
        return f"{at.day} {at:%b}"
    return "" if of_days else f"{at:%H:%M}"


# Colours


def slots(names: Sequence[str]) -> dict[str, int]:
    """A colour for each of up to seven names: the same from chart to chart, unless two want the same one."""
    taken: dict[str, int] = {}
    for name in sorted(names):
        slot = zlib.crc32(name.encode()) % SERIES
        while slot + 1 in taken.values():
            slot = (slot + 1) % SERIES
        taken[name] = slot + 1
    return taken


def fold(series: Sequence[Series], *, most: int = SERIES) -> list[Series]:
    """The first ``most``, and the others added up as one more. For what can be added: no percentiles."""
    if len(series) <= most + 1:
        return list(series)
    rest = [each.values for each in series[most:]]
    added = [sum((value for value in at if value is not None), 0) for at in zip_longest(*rest)]
    return [*series[:most], Series(f"{len(rest)} others", added, OTHER)]


def _coloured(series: Sequence[Series]) -> list[tuple[Series, int]]:
    found = slots([each.name for each in series if each.slot is None][:SERIES])
    return [(each, found.get(each.name, OTHER) if each.slot is None else each.slot) for each in series]


# Charts


def bars(
    series: Sequence[Series],
    labels: Sequence[Label],
    *,
    title: str,
    unit: Unit = COUNT,
    description: str = "",
    height: int = 220,
) -> Chart:
    """Stacked bars, the first series lowest; beyond seven the rest is one."""
    shown = fold(series)
    tops = [sum(float(each.values[index] or 0) for each in shown) for index in range(len(labels))]
    return _chart("bars", shown, labels, _Scale.of(max(tops, default=0.0), unit, height), title, description)


def lines(
    series: Sequence[Series],
    labels: Sequence[Label],
    *,
    title: str,
    unit: Unit = COUNT,
    description: str = "",
    height: int = 220,
) -> Chart:
    """A line each, broken where nothing was measured. The caller keeps them few: lines can't be added up."""
    highest = max((float(value) for each in series for value in each.values if value is not None), default=0.0)
    return _chart("lines", series, labels, _Scale.of(highest, unit, height), title, description)


def sparkline(values: Sequence[Value], *, title: str) -> Sparkline:
    """A line without axes, from edge to edge, beside a number that it is the past of. None counts as nothing."""
    highest = max((float(value or 0) for value in values), default=0.0) or 1.0
    apart = SPARK_WIDTH / max(1, len(values) - 1)
    ys = [2 + (SPARK_HEIGHT - 4) * (1 - float(value or 0) / highest) for value in values]
    line = "M" + "L".join(f"{_number(index * apart)} {_number(y)}" for index, y in enumerate(ys)) if ys else ""
    return Sparkline(title, line, f"{line}V{SPARK_HEIGHT:g}H0z" if line else "")


def days(states: Sequence[Day], *, title: str) -> Days:
    """A bar a day, the oldest first."""
    step = WIDTH / max(1, len(states))
    return Days(title, tuple((round(index * step, 2), day) for index, day in enumerate(states)), round(step * 0.7, 2))


@dataclass(frozen=True, slots=True)
class _Scale:
    highest: float
    steps: tuple[float, ...]
    unit: Unit
    height: int
    headroom: float = HEADROOM_PX

    @classmethod
    def of(cls, highest: float, unit: Unit, height: int) -> "_Scale":
        steps = nice(highest, whole=unit.whole)
        return cls(steps[-1], steps, unit, height)

    def y(self, value: float) -> float:
        return self.headroom + (self.height - self.headroom - 1) * (1 - value / self.highest)


def nice(highest: float, *, whole: bool = False) -> tuple[float, ...]:
    """Round numbers from zero to at least ``highest``, evenly apart, at most ``MOST_TICKS``."""
    if highest <= 0:
        return (0.0, 1.0)
    rough = highest / (MOST_TICKS - 1)
    power = math.floor(math.log10(rough))
    step = next(
        found for factor in ("1", "2", "2.5", "5", "10") if (found := float(f"{factor}e{power}")) >= rough * (1 - 1e-9)
    )
    if whole:
        step = float(max(1, math.ceil(step)))
    steps = math.ceil(round(highest / step, 9))
    return tuple(float(f"{index * step:.12g}") for index in range(steps + 1))


def _chart(  # noqa: PLR0917  # private, and called twice
    kind: str, series: Sequence[Series], labels: Sequence[Label], scale: _Scale, title: str, description: str
) -> Chart:
    if kind == "bars":
        drawn = [(path, "") for path in _stacked(series, len(labels), scale)]
    else:
        drawn = [_line(each.values, scale) for each in series]
    ticks = tuple(Tick(round(scale.y(step), 1), scale.unit.tick(step)) for step in scale.steps)
    cells = [tuple(scale.unit.cell(each.values[index]) for each in series) for index in range(len(labels))]
    return Chart(
        kind=kind,
        title=title,
        description=description or _summary(series, labels, scale.unit),
        height=scale.height,
        shapes=tuple(Shape(each.name, slot, *d) for (each, slot), d in zip(_coloured(series), drawn, strict=True)),
        ticks=ticks,
        marks=tuple(_marks(labels)),
        rows=tuple((label.long, row) for label, row in zip(labels, cells, strict=True)),
        axis_width=math.ceil(max(len(tick.text) for tick in ticks) * _TEXT_PX) + 8,
    )


def _summary(series: Sequence[Series], labels: Sequence[Label], unit: Unit) -> str:
    """For those who don't see it: from when to when, and where the highest value is."""
    values = [(float(value), value, index) for each in series for index, value in enumerate(each.values) if value]
    if not labels or not values:
        return "Nothing in this time."
    _, value, index = max(values, key=lambda each: each[0])
    return f"From {labels[0].long} to {labels[-1].long}; the highest value is {unit.cell(value)}, {labels[index].long}."


def _stacked(series: Sequence[Series], count: int, scale: _Scale) -> list[str]:
    step = WIDTH / max(1, count)
    wide = step * (0.76 if count < DENSE else 0.86)
    margin = (step - wide) / 2
    bases = [float(scale.height - 1)] * count
    paths = []
    for each in series:
        path = []
        for index, value in enumerate(each.values):
            if not value:
                continue
            tall = max(LEAST_PX, (scale.height - 1 - scale.headroom) * float(value) / scale.highest)
            bases[index] -= tall
            x, y = _number(index * step + margin), _number(bases[index])
            path.append(f"M{x} {y}h{_number(wide)}v{_number(tall)}h-{_number(wide)}z")
        paths.append("".join(path))
    return paths


def _line(values: Sequence[Value], scale: _Scale) -> tuple[str, str]:
    """The line, and its dots."""
    line, dots = [], []
    for run in _runs(values):
        points = [f"{_number(_middle(at, len(values), WIDTH))} {_number(scale.y(value))}" for at, value in run]
        if len(points) == 1:
            dots.append(f"M{points[0]}h0")
        else:
            line.append(f"M{'L'.join(points)}")
    return "".join(line), "".join(dots)


def _runs(values: Sequence[Value]) -> Iterator[list[tuple[int, float]]]:
    """What was measured without a gap: places and values."""
    run: list[tuple[int, float]] = []
    for index, value in enumerate([*values, None]):
        if value is not None:
            run.append((index, float(value)))
        elif run:
            yield run
            run = []


def _middle(index: int, count: int, width: float) -> float:
    return (index + 0.5) * width / count


def _marks(labels: Sequence[Label]) -> Iterator[Mark]:
    """Evenly apart among the labels that may have one."""
    able = [index for index, label in enumerate(labels) if label.short]
    apart = math.ceil(len(able) / MOST_LABELS) or 1
    for order, index in enumerate(able[::apart]):
        yield Mark(round(_middle(index, len(labels), 100.0), 2), labels[index].short, wide=order % 2 == 1)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
