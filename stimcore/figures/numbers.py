"""The plotted numbers of a figure as CSV."""

import csv
import io
from typing import Any

import plotly.graph_objects as go

from stimcore.figures.layout import csv_cell

INTERVAL = ("low (95% interval)", "high (95% interval)")
RANGE = ("smallest", "largest")
"""Names of the columns with both ends of an error bar; a figure whose bars are ranges has them in `layout.meta["ends"]`."""
DIGITS = 6
"""Significant digits of a number: one more than 100,000 images give an accuracy, and none of the noise of floating point."""


def figure_csv(figure: go.Figure) -> str:
    """Return every plotted point as CSV: the series, its place on both axes under their titles, a label, both ends of its bar.

    A column that no point has a value for is left out. An axis without a title holds no quantity, only places for the eye, and
    has no column. Where the vertical axes of a figure differ, the series names the quantity and the column is called `value`.

    Example:
        >>> points = go.Scatter(name="common", x=[1], y=[90.5], text=["d1-1"])
        >>> layout = {"xaxis": {"title": "blocks"}, "yaxis": {"title": "accuracy in %"}}
        >>> print(figure_csv(go.Figure(points, layout)), end="")
        series,blocks,accuracy in %,label
        common,1,90.5,d1-1
    """
    traces = [trace for trace in figure.data if trace.hoverinfo != "skip"]  # bands and rings only repeat points of other traces
    quantities = [_title(figure, "y", trace) for trace in traces]
    titles = sorted({title for title in quantities if title})
    across = next((title for trace in (None, *traces) if (title := _title(figure, "x", trace))), "")
    rows = []
    for trace, quantity in zip(traces, quantities, strict=True):
        name = f"{trace.name}: {quantity}" if len(titles) > 1 and quantity else trace.name or ""
        rows += [[name, *row] for row in (_cells if trace.type == "heatmap" else _points)(trace)]
    if any(trace.type == "heatmap" for trace in traces):
        header = ["series", across, _title(figure, "y"), "accuracy in %", "", ""]
    else:
        ends = (figure.layout.meta or {}).get("ends", INTERVAL)
        header = ["series", across, titles[0] if len(titles) == 1 else "value", "label", *ends]
    kept = [i for i, title in enumerate(header) if title and (i < 3 or any(row[i] != "" for row in rows))]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([csv_cell(row[i]) for i in kept] for row in (header, *rows))
    return out.getvalue()


def _title(figure: go.Figure, letter: str, trace: Any = None) -> str:
    """Return the title of a trace's axis; of the first axis where that has none, since its neighbours count the same."""
    name = getattr(trace, f"{letter}axis", None) or letter
    own = figure.layout[f"{letter}axis{name[1:]}"].title.text
    return str(own or figure.layout[f"{letter}axis"].title.text or "")


def _cells(trace: Any) -> list[list[Any]]:
    """Return column, row and value of every cell of a heat map that has one."""
    return [
        [column, row, _rounded(value), "", ""]
        for row, values in zip(trace.y, trace.z, strict=True)
        for column, value in zip(trace.x, values, strict=True)
        if value is not None
    ]


def _points(trace: Any) -> list[list[Any]]:
    """Return x, y, label and both ends of the bar of every point; empty texts for what a point lacks."""
    xs, ys = _values(trace.x), _values(trace.y)
    xs = xs or [trace.name] * len(ys)
    labels = _values(trace.customdata)
    if not labels or not isinstance(labels[0], str | int):  # several values for the hover text; the text has them in words
        labels = _values(trace.text) or [""] * len(ys)
    bars = trace.error_y if trace.type in ("scatter", "scattergl", "bar") else None
    up = _values(bars.array) if bars is not None else []
    down = _values(bars.arrayminus) if bars is not None else []
    rows = []
    for i, (x, y) in enumerate(zip(xs, ys, strict=True)):
        low = _rounded(y - down[i]) if i < len(down) and y is not None else ""
        high = _rounded(y + up[i]) if i < len(up) and y is not None else ""
        label = "" if str(labels[i]) == str(x) else labels[i]
        rows.append([_rounded(x), "" if y is None else _rounded(y), label, low, high])
    return rows


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _values(values: Any) -> list[Any]:
    # plotly keeps an unset array as None and a constant as text; elements of an array of numpy become numbers of Python
    if values is None or isinstance(values, str):
        return []
    return list(values.tolist() if hasattr(values, "tolist") else values)
