"""Fig. r8: how the accuracies of all ordered sub-networks spread, a box per method."""

import random
from collections.abc import Sequence

import plotly.graph_objects as go

from stimcore.analysis.result import Result
from stimcore.figures.layout import apply_layout
from stimcore.figures.method_sweep import MethodSweep, drawn_results
from stimcore.figures.style import Style, tint
from stimcore.subnets.spec import Spec

JITTER = 0.22
"""Largest distance of a point from the middle of its box, where neighbouring boxes are 1 apart."""


def accuracy_boxes(sweeps: Sequence[MethodSweep], chosen: Spec | None = None) -> go.Figure:
    """Return a box (quartiles, mean dashed) and a point per sub-network for each method; the main network is a star.

    Args:
        sweeps: One per method.
        chosen: A sub-network whose point gets a ring.
    """
    figure = go.Figure()
    for place, one in enumerate(sweeps):
        style, results = one.style, drawn_results(one.sweep.results)
        jitter = random.Random(place)
        figure.add_box(
            x0=place,
            y=[result.accuracy_pct for result in one.sweep.results],
            name=style.label,
            line={"color": style.color, "width": 1.5},
            fillcolor=tint(style.color, 0.12),
            boxpoints=False,
            boxmean=True,
            width=0.7,
            hoverinfo="skip",
        )
        figure.add_scatter(
            x=[place + jitter.uniform(-JITTER, JITTER) for _ in results],
            y=[result.accuracy_pct for result in results],
            mode="markers",
            name=style.label,
            marker={"color": style.color, "symbol": style.symbol, "size": 7 if len(results) < 400 else 4, "opacity": 0.75},
            customdata=[str(result.spec) for result in results],
            text=[one.name(result.spec) for result in results],
            hovertemplate="%{text}<br>%{y:.1f} % right<extra>" + style.label + "</extra>",
        )
        _add_main(figure, place, style, one.sweep.main)
        ringed = next((result for result in one.sweep.results if result.spec == chosen), None)
        if ringed is not None:
            figure.add_scatter(
                x=[place],
                y=[ringed.accuracy_pct],
                mode="markers",
                name=f"{style.label}: chosen",
                hoverinfo="skip",
                marker={"symbol": "circle-open", "size": 19, "color": style.color, "line": {"width": 3}},
            )
    figure.update_traces(showlegend=False)
    apply_layout(figure, x="", y="accuracy in %", height=460)
    figure.update_xaxes(
        tickvals=list(range(len(sweeps))),
        ticktext=[one.style.label.replace(" ", "<br>", 1) for one in sweeps],
        range=[-0.6, len(sweeps) - 0.4],
    )
    figure.update_layout(showlegend=False, clickmode="event+select")
    return figure


def _add_main(figure: go.Figure, place: int, style: Style, main: Result) -> None:
    figure.add_scatter(
        x=[place],
        y=[main.accuracy_pct],
        mode="markers",
        name=f"{style.label}: full network",
        marker={"symbol": "star", "size": 17, "color": style.color, "line": {"width": 1.5, "color": "white"}},
        customdata=[str(main.spec)],
        hovertemplate="full network<br>%{y:.1f} % right<extra>" + style.label + "</extra>",
    )
