"""Fig. r8: how the accuracies of all ordered sub-networks spread, a strip of points per method."""

import random
from collections.abc import Sequence

import plotly.graph_objects as go

from stimcore.analysis.loafing import overall
from stimcore.analysis.result import Result
from stimcore.figures.layout import apply_layout, error_bars
from stimcore.figures.method_sweep import MethodSweep, drawn_results
from stimcore.figures.style import Style
from stimcore.subnets.spec import Spec

JITTER = 0.22
"""Largest distance of a point from the middle of its strip, where neighbouring strips are 1 apart."""
FEW = 3
"""Methods whose labels stand side by side on a telephone, in two lines."""
MEAN_PLACE = 0.36
"""Distance of the mean from the middle of its strip: it stands beside the points, not among them."""


def accuracy_strips(sweeps: Sequence[MethodSweep], chosen: Spec | None = None) -> go.Figure:
    """Return a point per sub-network for each method, beside them their mean with its 95% interval; the main network is a star.

    Args:
        sweeps: One per method.
        chosen: A sub-network whose point gets a ring.
    """
    figure = go.Figure()
    for place, one in enumerate(sweeps):
        style, results = one.style, drawn_results(one.sweep.results)
        jitter = random.Random(place)
        figure.add_scatter(
            x=[place + jitter.uniform(-JITTER, JITTER) for _ in results],
            y=[result.accuracy_pct for result in results],
            mode="markers",
            name=style.label,
            marker={"color": style.color, "symbol": style.symbol, "size": 7 if len(results) < 400 else 4, "opacity": 0.75},
            customdata=[str(result.spec) for result in results],
            text=[one.name(result.spec) for result in results],
            hovertext=[_hover(one.name(result.spec), result) for result in results],
            hovertemplate="%{hovertext}<extra>" + style.label + "</extra>",
        )
        _add_mean(figure, place, one)
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
    few = len(sweeps) <= FEW  # labels of more are turned where the figure is narrow, and lie over each other in two lines
    figure.update_xaxes(
        tickvals=list(range(len(sweeps))),
        ticktext=[one.style.label.replace(" ", "<br>", 1) if few else one.style.label for one in sweeps],
        range=[-0.6, len(sweeps) - 0.4],
    )
    figure.update_layout(showlegend=False, clickmode="event+select")
    return figure


def _hover(name: str, result: Result) -> str:
    """Return what is shown at a point: which sub-network, how deep, how accurate, on how many images."""
    blocks = f"{len(result.spec.blocks)} block{'' if len(result.spec.blocks) == 1 else 's'}"
    return f"{name}, {blocks}<br>{result.accuracy_pct:.1f} % of {result.images:,} images right"


def _add_mean(figure: go.Figure, place: int, one: MethodSweep) -> None:
    statistics, style = overall(one.sweep), one.style
    mean = statistics.mean
    interval = f"({mean.low:.1f} to {mean.high:.1f})"
    figure.add_scatter(
        x=[place + MEAN_PLACE],
        y=[mean.value],
        error_y=error_bars([mean.value], [(mean.low, mean.high)]),
        mode="markers",
        name=f"{style.label}: mean",
        marker={"symbol": "line-ew", "size": 22, "line": {"width": 3, "color": style.color}},
        hovertemplate=f"mean of {statistics.num:,}: %{{y:.1f}} % {interval}<extra>{style.label}</extra>",
    )


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
