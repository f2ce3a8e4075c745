"""Fig. r3: accuracy of stimulative training over lambda."""

from collections.abc import Sequence

import plotly.graph_objects as go

from stimcore.analysis.loafing import Row, accuracy
from stimcore.report.figures.looks import laid_out, look


def ablation(points: Sequence[tuple[float, Row]], common: Row | None) -> go.Figure:
    """Main accuracy over lambda, with common training as a line across.

    Args:
        points: Lambda, more than 0, and the main network's row; in any order.
        common: The main network of common training with the same recipe, None where it was not trained.
    """
    figure = go.Figure()
    style = look("stimulative")
    ordered = sorted(points, key=lambda point: point[0])
    found = [accuracy(row) for _, row in ordered]
    figure.add_scatter(
        x=[weight for weight, _ in ordered],
        y=[a.value for a in found],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [a.high - a.value for a in found],
            "arrayminus": [a.value - a.low for a in found],
        },
        mode="lines+markers",
        name=style.name,
        line={"color": style.colour, "width": 2},
        marker={"symbol": style.symbol, "size": 10},
    )
    if common is not None:
        base, plain = accuracy(common), look("common")
        figure.add_hline(y=base.value, line={"color": plain.colour, "dash": plain.dash, "width": 2})
        figure.add_hrect(y0=base.low, y1=base.high, fillcolor=plain.colour, opacity=0.12, line_width=0)
        figure.add_scatter(x=[None], y=[None], mode="lines", name=plain.name, line={"color": plain.colour, "dash": plain.dash})
    laid_out(figure, height=380)
    weights = [weight for weight, _ in ordered]
    figure.update_xaxes(title="lambda", type="log", tickvals=weights, ticktext=[f"{weight:g}" for weight in weights])
    figure.update_yaxes(title="accuracy of the main network, %")
    return figure
