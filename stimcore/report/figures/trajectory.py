"""Fig. r2: test accuracy and training loss over the epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from stimcore.report.figures.looks import laid_out, look

Records = Sequence[Mapping[str, Any]]


def loss_of(record: Mapping[str, Any]) -> float:
    """Cross entropy of the main network where the method reports it apart, so that methods compare; else the whole loss."""
    losses = record["losses"]
    return float(losses.get("main_ce", losses["loss"]))


def trajectory(runs: Mapping[str, Records]) -> go.Figure:
    """Accuracy over loss, a shared axis of epochs; the star is the highest accuracy, as in the paper.

    Args:
        runs: Method -> its records, epoch by epoch.
    """
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.6, 0.4])
    for method, records in runs.items():
        style = look(method)
        tested = [row for row in records if "test" in row]
        line = {"color": style.colour, "dash": style.dash, "width": 2}
        best = max(tested, key=lambda row: row["test"]["accuracy_pct"], default=None)
        figure.add_scatter(
            x=[row["epoch"] for row in tested],
            y=[row["test"]["accuracy_pct"] for row in tested],
            name=style.name,
            mode="lines+markers",
            line=line,
            marker={"symbol": style.symbol, "size": 7},
            row=1,
            col=1,
        )
        if best is not None:
            figure.add_scatter(
                x=[best["epoch"]],
                y=[best["test"]["accuracy_pct"]],
                mode="markers",
                marker={"symbol": "star", "size": 16, "color": style.colour, "line": {"color": "#FFFFFF", "width": 1}},
                name=f"{style.name}, highest",
                showlegend=False,
                row=1,
                col=1,
            )
        figure.add_scatter(
            x=[row["epoch"] for row in records],
            y=[loss_of(row) for row in records],
            name=f"{style.name}, loss",
            mode="lines+markers",
            line=line,
            marker={"symbol": style.symbol, "size": 7},
            showlegend=False,
            row=2,
            col=1,
        )
    laid_out(figure, height=520)
    figure.update_xaxes(dtick=1 if max((len(r) for r in runs.values()), default=0) <= 20 else None)
    figure.update_xaxes(title="epoch", row=2, col=1)
    figure.update_yaxes(title="test accuracy, %", row=1, col=1)
    figure.update_yaxes(title="main loss, nats", row=2, col=1)
    return figure
