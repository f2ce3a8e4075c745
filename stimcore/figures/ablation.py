"""Fig. r3: the accuracy of stimulative training over lambda."""

import plotly.graph_objects as go

from stimcore.analysis.comparisons import LambdaAblation
from stimcore.analysis.seeds import main_accuracy
from stimcore.figures.layout import apply_layout, error_bars
from stimcore.figures.style import STYLES


def lambda_figure(ablation: LambdaAblation) -> go.Figure:
    """Return the main network's accuracy over lambda (log axis); common training is a line across with its 95% interval."""
    figure = go.Figure()
    style = STYLES["stimulative"]
    estimates = [main_accuracy(network) for _, network in ablation.points]
    weights = [weight for weight, _ in ablation.points]
    values = [estimate.value for estimate in estimates]
    figure.add_scatter(
        x=weights,
        y=values,
        error_y=error_bars(values, [(estimate.low, estimate.high) for estimate in estimates]),
        mode="lines+markers",
        name=style.label,
        line={"color": style.color, "dash": style.dash, "width": 2.5},
        marker={"symbol": style.symbol, "size": 10, "color": style.color},
        hovertemplate="lambda %{x}: %{y:.2f} %<extra></extra>",
    )
    if ablation.common is not None:
        common, line = main_accuracy(ablation.common), STYLES["common"]
        figure.add_hrect(y0=common.low, y1=common.high, fillcolor=line.color, opacity=0.12, line_width=0)
        figure.add_hline(y=common.value, line={"color": line.color, "dash": line.dash, "width": 2})
        # A line across is not a trace: this empty one names it in the legend, and no point of it is in the CSV.
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="lines",
            name=line.label,
            line={"color": line.color, "dash": line.dash, "width": 2},
            hoverinfo="skip",
        )
    apply_layout(figure, x="lambda (logarithmic)", y="accuracy in %", height=360)
    figure.update_xaxes(type="log", tickvals=weights, ticktext=[f"{weight:g}" for weight in weights])
    return figure
