"""``{% chart %}``, ``{% sparkline %}`` and ``{% days %}`` draw what ``helixflow.lib.charts`` made. docs/design.md."""

from typing import Any

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from helixflow.lib.charts import Chart, Days, Sparkline

register = template.Library()


@register.inclusion_tag("components/_chart.html")
def chart(chart: Chart, *, id: str, first: str = "When", open: bool = False) -> dict[str, Any]:  # noqa: A002  # HTML's names
    """A chart with its legend and its table. ``first`` heads the table's first column; ``open`` shows the table."""
    return {"chart": chart, "id": id, "first": first, "open": open, "rows": rows(chart)}


@register.inclusion_tag("components/_chart_days.html")
def days(days: Days, *, id: str, first: str = "Day") -> dict[str, Any]:  # noqa: A002  # HTML's name
    """A bar a day for a status page, with what was in a table. ``first`` heads its first column."""
    return {"days": days, "id": id, "first": first}


@register.simple_tag
def sparkline(sparkline: Sparkline) -> SafeString:
    return format_html(
        '<svg class="sparkline" viewBox="0 0 {w} {h}" height="{h}" preserveAspectRatio="none" role="img" '
        'aria-label="{title}"><path class="sparkline__area" d="{area}"/><path class="sparkline__line" d="{line}" '
        'vector-effect="non-scaling-stroke"/></svg>',
        w=SafeString(f"{sparkline.width:g}"),
        h=SafeString(f"{sparkline.height:g}"),
        title=sparkline.title,
        area=sparkline.area,
        line=sparkline.line,
    )


def rows(chart: Chart) -> SafeString:
    """The body of a chart's table, joined here: a template takes several times as long for thousands of cells."""
    cells = [
        (label, format_html_join("", '<td class="number">{}</td>', ((text,) for text in row)))
        for label, row in chart.rows
    ]
    return format_html_join("", '<tr><th scope="row">{}</th>{}</tr>', cells)
