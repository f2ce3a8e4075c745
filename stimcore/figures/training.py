"""What happened while training: Fig. r2's trajectories and Fig. r3's lambda."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from stimcore.figures.base import quiet
from stimcore.figures.style import Style

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Run:
    """One run's records."""

    style: Style
    rows: Rows
    active: bool = False


def accuracies(rows: Rows) -> list[tuple[int, float]]:
    """(epoch, test accuracy in percent) of the epochs that were tested."""
    return [(int(row["epoch"]), float(row["test"]["accuracy_pct"])) for row in rows if row.get("test")]


def trajectories(runs: Sequence[Run]) -> go.Figure:
    """Test accuracy above training loss over the epochs, a star at each run's best."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for run in runs:
        look, tested = run.style, accuracies(run.rows)
        line = {"color": look.color, "dash": look.dash, "width": 2.5}
        if tested:
            figure.add_scatter(
                x=[e for e, _ in tested],
                y=[a for _, a in tested],
                mode="lines+markers",
                name=look.label,
                line=line,
                row=1,
                col=1,
                marker={"symbol": look.symbol, "size": 8, "color": look.color},
                legendgroup=look.label,
                hovertemplate="epoch %{x}: %{y:.2f} %<extra>" + look.label + "</extra>",
            )
            epoch, best = max(tested, key=lambda pair: pair[1])
            figure.add_scatter(
                x=[epoch],
                y=[best],
                mode="markers",
                name=f"{look.label}: best",
                showlegend=False,
                row=1,
                col=1,
                legendgroup=look.label,
                marker={"symbol": "star", "size": 17, "color": look.color, "line": {"width": 1.5, "color": "white"}},
                hovertemplate="best: %{y:.2f} % in epoch %{x}<extra>" + look.label + "</extra>",
            )
        figure.add_scatter(
            x=[int(row["epoch"]) for row in run.rows],
            y=[float(row["losses"]["loss"]) for row in run.rows],
            mode="lines+markers",
            name=f"{look.label}: loss",
            showlegend=not tested,
            line=line,
            row=2,
            col=1,
            legendgroup=look.label,
            marker={"symbol": look.symbol, "size": 6, "color": look.color},
            hovertemplate="epoch %{x}: loss %{y:.3f}<extra>" + look.label + "</extra>",
        )
    quiet(figure, x="", y="", height=520)
    figure.update_xaxes(title_text="", row=1, col=1)
    figure.update_xaxes(title_text="epoch", row=2, col=1)
    if all(len(run.rows) <= 20 for run in runs):
        figure.update_xaxes(dtick=1)
    figure.update_yaxes(title_text="test accuracy in %", row=1, col=1)
    figure.update_yaxes(title_text="training loss", rangemode="tozero", row=2, col=1)
    return figure


@dataclass(frozen=True)
class LambdaPoint:
    """One run of the ablation: lambda, accuracy of the main network in percent and its 95% interval."""

    value: float
    accuracy_pct: float
    interval_pct: tuple[float, float]


def ablation(points: Sequence[LambdaPoint], common_pct: float | None, style: Style, common: Style) -> go.Figure:
    """Accuracy of the main network over lambda (log axis), common training as a horizontal line."""
    ordered = sorted(points, key=lambda p: p.value)
    figure = go.Figure()
    figure.add_scatter(
        x=[p.value for p in ordered],
        y=[p.accuracy_pct for p in ordered],
        mode="lines+markers",
        name=style.label,
        line={"color": style.color, "dash": style.dash},
        marker={"symbol": style.symbol, "size": 10, "color": style.color},
        error_y={
            "type": "data",
            "array": [p.interval_pct[1] - p.accuracy_pct for p in ordered],
            "arrayminus": [p.accuracy_pct - p.interval_pct[0] for p in ordered],
        },
        hovertemplate="lambda %{x}: %{y:.2f} %<extra></extra>",
    )
    if common_pct is not None:
        figure.add_hline(
            y=common_pct,
            line={"color": common.color, "dash": "dash"},
            annotation_text=common.label,
            annotation_position="bottom right",
        )
    quiet(figure, x="lambda: weight of “agree with the whole network”", y="accuracy in %", height=360)
    values = [p.value for p in ordered]
    figure.update_xaxes(type="log", tickvals=values, ticktext=[f"{value:g}" for value in values])
    return figure
