"""What all figures share: layout, error bars, and the theme of the printed report."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "displayModeBar": True,
    "modeBarButtons": [["toImage", "resetScale2d"]],
    "toImageButtonOptions": {"format": "svg", "filename": "stimcore"},
    "responsive": True,
}
"""Configuration of plotly.js for a figure on a page: the camera saves an SVG file."""

LEGEND_ROW_PX = 19
"""Height of a row of the legend."""

GREY = "#7A7A7A"
"""Marks that belong to no method; legible on light and dark ground."""

PRINT_TEXT, PRINT_GRID = "#101010", "#E3E3E3"


def apply_layout(figure: go.Figure, *, x: str, y: str, height: int = 420) -> go.Figure:
    """Set axis titles, legend above the plot, and no drag zoom, which would trap a scrolling finger.

    A figure with many named traces becomes higher: on a phone the legend takes a row for each of them.

    Args:
        figure: Figure to change.
        x: Title of the horizontal axis.
        y: Title of the vertical axis.
        height: Height in pixels with at most two names in the legend.

    Returns:
        The same figure.
    """
    num_named = sum(trace.showlegend is not False for trace in figure.data)
    figure.update_layout(
        height=height + LEGEND_ROW_PX * max(0, num_named - 2),
        dragmode=False,
        margin={"l": 10, "r": 10, "t": 36, "b": 10},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        hoverlabel={"align": "left"},
        xaxis_title=x,
        yaxis_title=y,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": "#0072B2"},
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure


def apply_print_theme(figure: go.Figure) -> go.Figure:
    """Give a figure its own fonts, grid and white ground, for pages and SVG files that have no theme around it.

    The dashboard leaves this out: there the theme of the page colours text and grid.

    Returns:
        The same figure.
    """
    figure.update_layout(
        template="none",
        font={"family": "system-ui, DejaVu Sans, sans-serif", "size": 14, "color": PRINT_TEXT},
        paper_bgcolor="#FFFFFF",
        plot_bgcolor="#FFFFFF",
    )
    axis = {"gridcolor": PRINT_GRID, "zeroline": False, "linecolor": PRINT_TEXT, "ticks": "outside"}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def error_bars(values: Sequence[float], intervals: Sequence[tuple[float, float]], *, visible: bool = True) -> dict[str, Any]:
    """Return plotly's `error_y` of 95% intervals.

    Args:
        values: Plotted values.
        intervals: Low and high end per value.
        visible: Whether bars are drawn; `stimcore.figures.numbers` writes the intervals in both cases.

    Example:
        >>> bars = error_bars([5.0], [(4.0, 7.0)])
        >>> bars["array"], bars["arrayminus"]
        ([2.0], [1.0])
    """
    return {
        "type": "data",
        "visible": visible,
        "symmetric": False,
        "array": [high - value for value, (_, high) in zip(values, intervals, strict=True)],
        "arrayminus": [value - low for value, (low, _) in zip(values, intervals, strict=True)],
        "thickness": 1.4,
        "width": 3,
    }


def csv_cell(value: Any) -> Any:
    """Return a cell as a spreadsheet shows it: a text from outside that it would run as a formula gets an apostrophe in front.

    Numbers stay numbers, negative ones too.

    Example:
        >>> csv_cell("=HYPERLINK(1)"), csv_cell("d1-1-1"), csv_cell(-1.5), csv_cell("-1.5")
        ("'=HYPERLINK(1)", 'd1-1-1', -1.5, '-1.5')
    """
    if not isinstance(value, str):
        return value
    value = value.replace("\r", " ")  # a reader would begin another row there
    if not value.startswith(("=", "+", "-", "@", "\t")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def clicked_spec(event: Any) -> str:
    """Return the spec of a clicked point, empty where no point with a spec is selected.

    Args:
        event: Selection of a figure in the form of `st.plotly_chart`; None before the figure was drawn.

    Example:
        >>> clicked_spec({"selection": {"points": [{"customdata": ["1-2.3"]}]}}), clicked_spec(None)
        ('1-2.3', '')
    """
    try:
        points = event["selection"]["points"]
    except (KeyError, TypeError):
        return ""
    for point in points:
        data = point.get("customdata")
        value = data[0] if isinstance(data, list | tuple) and data else data
        if value not in (None, ""):
            return str(value)
    return ""
