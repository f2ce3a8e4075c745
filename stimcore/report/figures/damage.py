"""Figs r4 to r7: the drop when (a) one block is deleted, (b) more are, (c) blocks are permuted."""

from collections.abc import Mapping

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from stimcore.analysis.loafing import Spread, Sweep, deletion_curve, permutation_curve, single_deletions
from stimcore.report.figures.looks import laid_out, look
from stimcore.subnets.topology import Topology

DODGE = 0.08
"""How far apart methods with the same amount of damage stand, in blocks or operations."""


def damage(topology: Topology, sweeps: Mapping[str, Mapping[str, Sweep]]) -> go.Figure:
    """Three panels that share their axis of drops. What was not swept has no mark, which is not a drop of zero.

    Args:
        topology: Of the network.
        sweeps: Method -> family (`delete`, `permute`) -> sweep.
    """
    titles = ("(a) one block deleted", "(b) several deleted", "(c) blocks permuted")
    figure = make_subplots(rows=1, cols=3, shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=titles)
    for place, (method, families) in enumerate(sweeps.items()):
        style = look(method)
        beside = DODGE * (place - (len(sweeps) - 1) / 2)
        if delete := families.get("delete"):
            singles = single_deletions(topology, delete)
            figure.add_bar(
                x=[str(block) for block, _ in singles],
                y=[row["drop_pct"] for _, row in singles],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [row["drop_interval_pct"][1] - row["drop_pct"] for _, row in singles],
                    "arrayminus": [row["drop_pct"] - row["drop_interval_pct"][0] for _, row in singles],
                    "thickness": 1,
                    "width": 2,
                },
                name=style.name,
                legendgroup=method,
                marker={"color": style.colour},
                hovertemplate="without block %{x}<br>drop %{y:.2f} points<extra>" + style.name + "</extra>",
                row=1,
                col=1,
            )
            _curve(figure, method, deletion_curve(topology, delete), "deleted", 2, beside, named=False)
        if permute := families.get("permute"):
            _curve(figure, method, permutation_curve(topology, permute), "operations", 3, beside, named=delete is None)
    laid_out(figure, height=460, barmode="group")
    figure.update_layout(margin={"t": 92}, legend={"y": 1.12})
    for column, title in enumerate(("deleted block", "deleted blocks", "permuting operations"), 1):
        figure.update_xaxes(title=title, row=1, col=column)
    figure.update_xaxes(type="category", row=1, col=1)
    for column in (2, 3):
        figure.update_xaxes(dtick=1, row=1, col=column)
    figure.update_yaxes(title="accuracy drop, points", row=1, col=1)
    return figure


def _curve(
    figure: go.Figure, method: str, spreads: list[Spread], unit: str, column: int, beside: float, *, named: bool
) -> None:
    """Median line with bars from the smallest to the largest drop."""
    style = look(method)
    figure.add_scatter(
        x=[spread.amount + beside for spread in spreads],
        y=[spread.median for spread in spreads],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [spread.high - spread.median for spread in spreads],
            "arrayminus": [spread.median - spread.low for spread in spreads],
            "thickness": 1.5,
            "width": 4,
        },
        customdata=[[spread.num, spread.low, spread.high, spread.amount] for spread in spreads],
        mode="lines+markers",
        name=style.name,
        legendgroup=method,
        showlegend=named,
        line={"color": style.colour, "dash": style.dash, "width": 2},
        marker={"symbol": style.symbol, "size": 8, "color": style.colour},
        hovertemplate=f"%{{customdata[3]}} {unit}, %{{customdata[0]}} sub-networks<br>median %{{y:.2f}}, "
        f"from %{{customdata[1]:.2f}} to %{{customdata[2]:.2f}} points<extra>{style.name}</extra>",
        row=1,
        col=column,
    )
