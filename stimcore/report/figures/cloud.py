"""Fig. r1: the accuracy of every ordered sub-network over its size."""

from collections.abc import Mapping

import plotly.graph_objects as go

from stimcore.analysis.loafing import Row, Sweep
from stimcore.report.figures.looks import laid_out, look


def size_of(row: Row, macs: Mapping[str, int]) -> float | None:
    """Millions of multiply-accumulates, None where the sub-network is not listed."""
    return macs[row["spec"]] / 1e6 if row["spec"] in macs else None


def cloud(sweeps: Mapping[str, Sweep], macs: Mapping[str, int]) -> go.Figure:
    """A point per ordered sub-network and method, the main network larger, with a white border.

    Args:
        sweeps: Method -> its ordered sub-networks.
        macs: Spec -> multiply-accumulates; where it is empty the number of blocks takes their place.
    """
    figure = go.Figure()
    for method, sweep in sweeps.items():
        style = look(method)
        rows = sorted(sweep["results"], key=lambda row: _x(row, macs))
        whole = [row["spec"] == sweep["main"]["spec"] for row in rows]
        figure.add_scatter(
            x=[_x(row, macs) for row in rows],
            y=[row["accuracy_pct"] for row in rows],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [row["interval_pct"][1] - row["accuracy_pct"] for row in rows],
                "arrayminus": [row["accuracy_pct"] - row["interval_pct"][0] for row in rows],
                "width": 0,
                "thickness": 1,
            },
            name=style.name,
            mode="markers",
            text=[row["spec"] for row in rows],
            hovertemplate="%{text}<br>%{y:.2f}%<extra>" + style.name + "</extra>",
            marker={
                "symbol": style.symbol,
                "color": style.colour,
                "size": [15 if is_main else 8 for is_main in whole],
                "line": {"color": "#FFFFFF", "width": 1},
                "opacity": 1,
            },
        )
    laid_out(figure)
    figure.update_xaxes(title="million multiply-accumulates per image" if macs else "blocks", dtick=None if macs else 1)
    figure.update_yaxes(title="accuracy, %", autorangeoptions={"maxallowed": 100})
    return figure


def _x(row: Row, macs: Mapping[str, int]) -> float:
    return macs.get(row["spec"], 0) / 1e6 if macs else len(row["spec"].replace(".", "-").split("-"))
