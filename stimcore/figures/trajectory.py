"""Fig. r2: test accuracy and training loss over the epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from stimcore.figures.layout import apply_layout
from stimcore.figures.style import Style

Records = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Trajectory:
    """One training and how it is drawn.

    Attributes:
        style: Colour, dash and label.
        records: Lines of `training.jsonl`, epoch by epoch.
    """

    style: Style
    records: Records


def tested_accuracies(records: Records) -> list[tuple[int, float]]:
    """Return (epoch, test accuracy in percent) of the epochs that were tested.

    Example:
        >>> tested_accuracies([{"epoch": 1, "test": {"accuracy_pct": 85.5}}, {"epoch": 2}])
        [(1, 85.5)]
    """
    return [(int(record["epoch"]), float(record["test"]["accuracy_pct"])) for record in records if record.get("test")]


def main_loss(record: Mapping[str, Any]) -> float:
    """Return the cross entropy of the main network in nats, which compares between methods.

    The whole loss does not: every method adds other terms to it. It stands in only where a record has no cross entropy of
    the main network.

    Example:
        >>> main_loss({"losses": {"loss": 0.9, "main_ce": 0.75}}), main_loss({"losses": {"loss": 0.9}})
        (0.75, 0.9)
    """
    losses = record["losses"]
    return float(losses.get("main_ce", losses["loss"]))


def trajectories(runs: Sequence[Trajectory]) -> go.Figure:
    """Return test accuracy above the main network's loss over the epochs, a star at the highest accuracy of each run."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.6, 0.4])
    for run in runs:
        tested = tested_accuracies(run.records)
        if tested:
            _add_accuracy(figure, run.style, tested)
        style = run.style
        figure.add_scatter(
            x=[int(record["epoch"]) for record in run.records],
            y=[main_loss(record) for record in run.records],
            mode="lines+markers",
            name=f"{style.label}: loss",
            showlegend=not tested,
            line={"color": style.color, "dash": style.dash, "width": 2.5},
            row=2,
            col=1,
            legendgroup=style.label,
            marker={"symbol": style.symbol, "size": 6, "color": style.color},
            hovertemplate="epoch %{x}: loss %{y:.3f}<extra>" + style.label + "</extra>",
        )
    apply_layout(figure, x="", y="", height=520)
    figure.update_xaxes(title_text="epoch", row=2, col=1)
    if all(len(run.records) <= 20 for run in runs):
        figure.update_xaxes(dtick=1)
    figure.update_yaxes(title_text="test accuracy in %", row=1, col=1)
    figure.update_yaxes(title_text="main loss in nats", rangemode="tozero", row=2, col=1)
    return figure


def _add_accuracy(figure: go.Figure, style: Style, tested: Sequence[tuple[int, float]]) -> None:
    figure.add_scatter(
        x=[epoch for epoch, _ in tested],
        y=[accuracy for _, accuracy in tested],
        mode="lines+markers",
        name=style.label,
        line={"color": style.color, "dash": style.dash, "width": 2.5},
        row=1,
        col=1,
        marker={"symbol": style.symbol, "size": 8, "color": style.color},
        legendgroup=style.label,
        hovertemplate="epoch %{x}: %{y:.2f} %<extra>" + style.label + "</extra>",
    )
    epoch, best = max(tested, key=lambda pair: pair[1])
    figure.add_scatter(
        x=[epoch],
        y=[best],
        mode="markers",
        name=f"{style.label}: best",
        showlegend=False,
        row=1,
        col=1,
        legendgroup=style.label,
        marker={"symbol": "star", "size": 17, "color": style.color, "line": {"width": 1.5, "color": "white"}},
        hovertemplate="best: %{y:.2f} % in epoch %{x}<extra>" + style.label + "</extra>",
    )
