"""What all figures share: a quiet layout, a modebar that saves SVG, and the plotted numbers as CSV."""

import csv
import io
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
"""For `st.plotly_chart(config=)`: the camera saves an SVG."""

ROW = 19
"""Height of a legend's row in pixels."""


def quiet(figure: go.Figure, *, x: str, y: str, height: int = 420) -> go.Figure:
    """Axis titles, legend above, no drag zoom that traps a scrolling finger.

    A figure with many names is higher: on a phone each of them takes a row of its own above the plot.
    """
    named = sum(trace.showlegend is not False for trace in figure.data)
    figure.update_layout(
        height=height + ROW * max(0, named - 2),
        dragmode=False,
        margin={"l": 10, "r": 10, "t": 36, "b": 10},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        hoverlabel={"align": "left"},
        xaxis_title=x,
        yaxis_title=y,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#7A7A7A", "activecolor": "#0072B2"},
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure


def plotted(figure: go.Figure) -> str:
    """Every plotted point as CSV: trace, x, y, text (plotly fills none of it in), and the interval where one is drawn."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["series", "x", "y", "label", "low", "high"])
    for trace in figure.data:
        if trace.type == "heatmap":
            for row, values in zip(trace.y, trace.z, strict=True):
                for column, value in zip(trace.x, values, strict=True):
                    if value is not None:
                        writer.writerow([trace.name or "", column, row, value, "", ""])
            continue
        if trace.hoverinfo == "skip":
            continue  # bands repeat what the intervals say
        xs, ys = _values(trace.x), _values(trace.y)
        xs = xs or [trace.name] * len(ys)
        labels = _values(trace.customdata) or _values(trace.text) or [""] * len(ys)
        bars = trace.error_y if trace.type in ("scatter", "scattergl", "bar") else None
        up = _values(bars.array) if bars is not None else []
        down = _values(bars.arrayminus) if bars is not None else []
        for i, (a, b) in enumerate(zip(xs, ys, strict=True)):
            low = b - down[i] if i < len(down) and b is not None else ""
            high = b + up[i] if i < len(up) and b is not None else ""
            label = labels[i] if isinstance(labels[i], str | int) else " ".join(map(str, labels[i]))
            writer.writerow([trace.name or "", a, "" if b is None else b, label, low, high])
    return out.getvalue()


def _values(values: Any) -> list[Any]:
    if values is None or isinstance(values, str):
        return []
    return list(values)


def error_bars(values: Sequence[float], intervals: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """plotly's `error_y` of 95% intervals."""
    return {
        "type": "data",
        "array": [high - v for v, (_, high) in zip(values, intervals, strict=True)],
        "arrayminus": [v - low for v, (low, _) in zip(values, intervals, strict=True)],
        "thickness": 1.4,
        "width": 3,
    }
