"""Accuracy against cost: which sub-networks are worth running, and the best within a budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from stimcore.figures.base import quiet
from stimcore.figures.style import Style


@dataclass(frozen=True)
class Option:
    """A network that can be downloaded.

    Attributes:
        method: Folder of its bundle.
        file: Its ONNX file.
        spec: Long form.
        name: For a reader.
        accuracy_pct: In percent.
        cost: Milliseconds per image, or million multiply-adds.
    """

    method: str
    file: str
    spec: str
    name: str
    accuracy_pct: float
    cost: float


def front(options: Sequence[Option]) -> list[Option]:
    """Those that no other one beats: cheaper ones are all less accurate. By rising cost."""
    best: list[Option] = []
    for option in sorted(options, key=lambda o: (o.cost, -o.accuracy_pct)):
        if not best or option.accuracy_pct > best[-1].accuracy_pct:
            best.append(option)
    return best


def within(options: Sequence[Option], budget: float) -> Option | None:
    """The most accurate one that costs at most `budget`, the cheapest among equals; None where none does."""
    allowed = [o for o in options if o.cost <= budget]
    return max(allowed, key=lambda o: (o.accuracy_pct, -o.cost), default=None)


def chart(groups: Sequence[tuple[Style, Sequence[Option]]], chosen: Option | None, budget: float | None, x: str) -> go.Figure:
    """All options faint, each method's front as a step line, the budget as a vertical line, the chosen one ringed."""
    figure = go.Figure()
    for look, options in groups:
        figure.add_scatter(
            x=[o.cost for o in options],
            y=[o.accuracy_pct for o in options],
            mode="markers",
            name=look.label,
            showlegend=False,
            marker={"color": look.color, "symbol": look.symbol, "size": 8, "opacity": 0.4},
            customdata=[o.spec for o in options],
            text=[o.name for o in options],
            hovertemplate="%{text}<br>%{y:.1f} % right, %{x:.3g}<extra>" + look.label + "</extra>",
        )
        best = front(options)
        figure.add_scatter(
            x=[o.cost for o in best],
            y=[o.accuracy_pct for o in best],
            mode="lines+markers",
            name=look.label,
            line={"color": look.color, "shape": "hv", "width": 2, "dash": look.dash},
            customdata=[o.spec for o in best],
            marker={"color": look.color, "symbol": look.symbol, "size": 10},
            text=[o.name for o in best],
            hovertemplate="%{text}<br>%{y:.1f} % right, %{x:.3g}<extra>" + look.label + "</extra>",
        )
    if budget is not None:
        figure.add_vline(x=budget, line={"dash": "dot", "width": 2, "color": "#7A7A7A"}, annotation_text="budget")
    if chosen:
        figure.add_scatter(
            x=[chosen.cost],
            y=[chosen.accuracy_pct],
            mode="markers",
            name="chosen",
            hoverinfo="skip",
            marker={"symbol": "circle-open", "size": 22, "color": "#7A7A7A", "line": {"width": 3}},
        )
    quiet(figure, x=x, y="accuracy in %", height=440)
    return figure


def timing(on: Mapping[str, Any]) -> str:
    """What measured times are: of what, and where they were measured."""
    where = "the GPU" if "CUDA" in str(on.get("provider", "")) else f"{on.get('threads', 1)} of {on.get('cores', '?')} cores"
    return (
        f"Median time for one image, measured here on {where} ({on.get('machine', 'an unnamed machine')}) "
        f"with onnxruntime {on.get('onnxruntime', '')}, {on.get('calls', '?')} calls each."
    )
