"""Charts by their numbers, and what the tag makes of them."""

from datetime import UTC, datetime, timedelta

import pytest
from django.template import Context, Template

from helixflow.lib import charts
from helixflow.lib.charts import Label, Series

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def labels(count):
    return [Label(str(index), f"Day {index}") for index in range(count)]


def render(chart):
    return Template('{% load charts %}{% chart chart id="c" %}').render(Context({"chart": chart}))


@pytest.mark.parametrize(
    ("highest", "steps"),
    [
        (0, (0, 1)),
        (1, (0, 0.25, 0.5, 0.75, 1)),
        (7, (0, 2, 4, 6, 8)),
        (100, (0, 25, 50, 75, 100)),
        (0.0003, (0, 0.0001, 0.0002, 0.0003)),
        (9_999_999, (0, 2_500_000, 5_000_000, 7_500_000, 10_000_000)),
    ],
)
def test_axes_have_round_numbers(highest, steps):
    assert charts.nice(highest) == pytest.approx(steps)


def test_what_is_counted_has_no_halves():
    assert charts.nice(1, whole=True) == (0, 1)
    assert charts.nice(9, whole=True) == (0, 3, 6, 9)


def test_bars_stand_on_each_other():
    chart = charts.bars([Series("a", [50, 0]), Series("b", [50, 100])], labels(2), title="T", height=109)
    first, second = chart.shapes
    assert first.path == "M60 58h380v50h-380z"  # the plot is 100 pixels high, from 8 to 108
    assert second.path == "M60 8h380v50h-380zM560 8h380v100h-380z"
    assert [(tick.y, tick.text) for tick in chart.ticks][::4] == [(108.0, "0"), (8.0, "100")]


def test_little_beside_much_can_be_seen():
    chart = charts.bars([Series("a", [1_000_000, 1])], labels(2), title="T")
    assert chart.shapes[0].path.endswith("h380v1h-380z")


def test_a_line_breaks_where_nothing_was_measured():
    chart = charts.lines([Series("a", [100, 0, None, 50, None])], labels(5), title="T", height=109)
    assert chart.shapes[0].path == "M100 8L300 108"
    assert chart.shapes[0].dots == "M700 58h0"
    assert [row[1] for row in chart.rows] == [("100",), ("0",), ("–",), ("50",), ("–",)]


def test_beyond_seven_series_the_rest_is_one_that_adds_them_up():
    chart = charts.bars([Series(f"m{index}", [index, None]) for index in range(10)], labels(2), title="T")
    assert [shape.name for shape in chart.shapes][-2:] == ["m6", "3 others"]
    assert chart.shapes[-1].slot == charts.OTHER
    assert chart.rows[0][1][-1] == "24"
    eight = [Series(f"m{index}", [1]) for index in range(8)]
    assert len(charts.fold(eight, most=7)) == 8, "one other would take the place of one"


def test_a_series_keeps_its_colour_whoever_is_beside_it():
    alone = charts.slots(["gpt-4o"])["gpt-4o"]
    assert charts.slots(["gpt-4o", "smollm2"])["gpt-4o"] == alone
    assert charts.slots(["smollm2", "gpt-4o"])["gpt-4o"] == alone
    seven = charts.slots([f"model {index}" for index in range(7)])
    assert sorted(seven.values()) == [1, 2, 3, 4, 5, 6, 7]


def test_a_chosen_colour_wins():
    chart = charts.bars([Series("ok", [1], slot=3)], labels(1), title="T")
    assert chart.shapes[0].slot == 3


def test_labels_stand_apart_and_every_other_one_is_left_out_on_phones():
    marks = charts.bars([Series("a", [1] * 30)], labels(30), title="T").marks
    assert [mark.text for mark in marks] == ["0", "4", "8", "12", "16", "20", "24", "28"]
    assert [mark.wide for mark in marks] == [False, True] * 4
    assert marks[0].x == pytest.approx(1.67)


def test_many_hours_are_labelled_at_midnight():
    week = charts.time_labels([NOON + timedelta(hours=hour) for hour in range(168)], "hour")
    assert [label.short for label in week if label.short] == [f"{day} Nov" for day in range(24, 31)]
    assert week[0].long == "23 Nov 2026, 12:00 UTC"
    day = charts.time_labels([NOON + timedelta(hours=hour) for hour in range(24)], "hour")
    assert [label.short for label in day][11:14] == ["23:00", "24 Nov", "01:00"]


def test_days_and_months_are_labelled():
    assert charts.time_labels([NOON], "day") == [Label("23 Nov", "Mon 23 Nov 2026")]
    assert charts.time_labels([NOON, datetime(2027, 1, 1, tzinfo=UTC)], "month") == [
        Label("Nov", "November 2026"),
        Label("Jan 2027", "January 2027"),
    ]


@pytest.mark.parametrize(
    ("ms", "text"),
    [(None, "–"), (0, "0 ms"), (0.84, "0.8 ms"), (350.4, "350 ms"), (1250, "1.25 s"), (123_456, "123 s")],
)
def test_durations_are_told_in_their_unit(ms, text):
    assert charts.milliseconds(ms) == text


def test_small_money_is_not_nothing_on_the_axis():
    unit = charts.amount(lambda value: f"{value} USD")
    chart = charts.bars([Series("Cost", [0.0000021])], labels(1), title="T", unit=unit)
    assert [tick.text for tick in chart.ticks] == ["0", "0.000001", "0.000002", "0.000003"]
    assert chart.rows[0][1] == ("2.1e-06 USD",)


def test_nothing_is_a_chart_too():
    chart = charts.bars([], [], title="T")
    assert chart.description == "Nothing in this time."
    assert "<table" in render(chart)
    assert charts.sparkline([], title="S").line == ""


def test_a_sparkline_goes_from_edge_to_edge():
    spark = charts.sparkline([0, None, 10], title="Requests")
    assert spark.line == "M0 26L50 26L100 2"
    assert spark.area == "M0 26L50 26L100 2V28H0z"
    html = Template("{% load charts %}{% sparkline spark %}").render(Context({"spark": spark}))
    assert 'aria-label="Requests"' in html
    assert 'viewBox="0 0 100 28"' in html


def test_days_are_bars_and_a_table():
    states = [charts.Day(charts.OK, "22 Nov", "All well"), charts.Day(charts.DOWN, "23 Nov", "Down for 4 minutes")]
    found = charts.days(states, title="API")
    assert [x for x, _ in found.bars] == [0, 500]
    html = Template('{% load charts %}{% days days id="d" %}').render(Context({"days": found}))
    assert 'class="day--down" x="500.0"' in html
    assert '<th scope="row">23 Nov</th><td>Down for 4 minutes</td>' in html


def test_a_chart_says_what_it_shows_and_has_its_numbers_in_a_table():
    html = render(charts.bars([Series("gpt-4o", [1, 1234])], labels(2), title="Requests"))
    assert 'aria-label="Requests. From Day 0 to Day 1; the highest value is 1,234, Day 1."' in html
    assert '<tr><th scope="row">Day 1</th><td class="number">1,234</td></tr>' in html
    assert "style=" not in html, "the Content-Security-Policy refuses it"


def test_names_are_escaped():
    html = render(charts.bars([Series("<script>", [1]), Series("b", [1])], [Label("<i>", "<b>")], title="<u>"))
    for tag in ("<script>", "<i>", "<b>", "<u>"):
        assert tag not in html
