"""Fig. r8: the accuracies of all ordered sub-networks, a strip per method."""

from collections.abc import Mapping

import plotly.graph_objects as go

from stimcore.analysis.loafing import Sweep
from stimcore.report.figures.looks import laid_out, look


def strips(sweeps: Mapping[str, Sweep]) -> go.Figure:
    """Box and every point per method; the long bar is the main network.

    Args:
        sweeps: Method -> its ordered sub-networks.
    """
    figure = go.Figure()
    for place, (method, sweep) in enumerate(sweeps.items()):
        style = look(method)
        rows = sweep["results"]
        figure.add_box(
            x=[place] * len(rows),
            y=[row["accuracy_pct"] for row in rows],
            name=style.name,
            boxpoints="all",
            jitter=0.5,
            pointpos=0,
            fillcolor="rgba(0,0,0,0)",
            line={"color": style.colour, "width": 1},
            marker={"color": style.colour, "symbol": style.symbol, "size": 6},
            text=[row["spec"] for row in rows],
            hovertemplate="%{text}<br>%{y:.2f}%<extra>" + style.name + "</extra>",
            showlegend=False,
        )
        figure.add_scatter(
            x=[place],
            y=[sweep["main"]["accuracy_pct"]],
            mode="markers",
            marker={"symbol": "line-ew", "size": 60, "color": style.colour, "line": {"color": style.colour, "width": 3}},
            hovertemplate="main network<br>%{y:.2f}%<extra>" + style.name + "</extra>",
            showlegend=False,
        )
    laid_out(figure)
    figure.update_xaxes(tickvals=list(range(len(sweeps))), ticktext=[look(method).name for method in sweeps])
    figure.update_yaxes(title="accuracy, %", autorangeoptions={"maxallowed": 100})
    return figure
