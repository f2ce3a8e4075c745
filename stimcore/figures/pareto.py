"""Accuracy against cost: which sub-networks are worth running, and the best one within a budget."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from stimcore.analysis.comparisons import Option, pareto_front
from stimcore.figures.layout import GREY, apply_layout
from stimcore.figures.style import Style


def pareto_figure(
    groups: Sequence[tuple[Style, Sequence[Option]]], chosen: Option | None, budget: float | None, x: str
) -> go.Figure:
    """Return all options faint, the Pareto front of each method as a step line, the budget as a vertical line.

    Args:
        groups: Style and options per method.
        chosen: An option that gets a ring.
        budget: Largest cost that is allowed; None draws no line.
        x: What the cost counts.
    """
    figure = go.Figure()
    for style, options in groups:
        hover = "%{text}<br>%{y:.1f} % right, %{x:,.3r}<extra>" + style.label + "</extra>"
        figure.add_scatter(
            x=[option.cost for option in options],
            y=[option.accuracy_pct for option in options],
            mode="markers",
            name=style.label,
            showlegend=False,
            marker={"color": style.color, "symbol": style.symbol, "size": 8, "opacity": 0.4},
            customdata=[option.spec for option in options],
            text=[option.name for option in options],
            hovertemplate=hover,
        )
        front = pareto_front(options)
        figure.add_scatter(
            x=[option.cost for option in front],
            y=[option.accuracy_pct for option in front],
            mode="lines+markers",
            name=style.label,
            line={"color": style.color, "shape": "hv", "width": 2, "dash": style.dash},
            customdata=[option.spec for option in front],
            marker={"color": style.color, "symbol": style.symbol, "size": 10},
            text=[option.name for option in front],
            hovertemplate=hover,
        )
    if budget is not None:
        figure.add_vline(x=budget, line={"dash": "dot", "width": 2, "color": GREY}, annotation_text="budget")
    if chosen:
        figure.add_scatter(
            x=[chosen.cost],
            y=[chosen.accuracy_pct],
            mode="markers",
            name="chosen",
            hoverinfo="skip",
            marker={"symbol": "circle-open", "size": 22, "color": GREY, "line": {"width": 3}},
        )
    apply_layout(figure, x=x, y="accuracy in %", height=440)
    return figure


def describe_timing(conditions: Mapping[str, Any]) -> str:
    """Return a sentence on measured times: what was measured, and where.

    Args:
        conditions: `latency_on` of a bundle's `latency.json`.

    Example:
        >>> describe_timing({"provider": "CPUExecutionProvider", "threads": 1, "cores": 2, "machine": "x86_64",
        ...                  "onnxruntime": "1.31.1", "calls": 40})
        'Median time for one image, measured on 1 of 2 cores (x86_64) with onnxruntime 1.31.1, 40 calls each.'
    """
    cores = f"{conditions.get('threads', 1)} of {conditions.get('cores', '?')} cores"
    where = "the GPU" if "CUDA" in str(conditions.get("provider", "")) else cores
    return (
        f"Median time for one image, measured on {where} ({conditions.get('machine', 'an unnamed machine')}) "
        f"with onnxruntime {conditions.get('onnxruntime', '')}, {conditions.get('calls', '?')} calls each."
    )
