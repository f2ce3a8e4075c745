"""Tables r5 and r6 as a picture: the accuracy of small networks inside larger ones."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from stimcore.figures.layout import apply_layout

DARK_BELOW_PCT = 55
"""Cells below this accuracy are dark in the colour scale: their number is white."""


def nested_matrix(names: Sequence[str], cells: Mapping[tuple[str, str], float], title: str) -> go.Figure:
    """Return a heat map with numbers; rows are sub-networks, columns the main networks they lie inside.

    Args:
        names: Networks from the smallest to the largest.
        cells: (sub-network, main network) -> accuracy in percent.
        title: Name of the series, `paper` or `measured here`.
    """
    figure = go.Figure(
        go.Heatmap(
            x=list(names),
            y=list(names),
            z=[[cells.get((row, column)) for column in names] for row in names],
            colorscale="Cividis",
            zmin=0,
            zmax=100,
            hoverongaps=False,
            name=title,
            hovertemplate="%{y} inside %{x}: %{z:.2f} %<extra></extra>",
            colorbar={"title": "%", "thickness": 12},
        )
    )
    for row in names:
        for column in names:
            value = cells.get((row, column))
            if value is not None:
                figure.add_annotation(
                    x=column,
                    y=row,
                    text=f"{value:.1f}",
                    showarrow=False,
                    font={"color": "white" if value < DARK_BELOW_PCT else "black", "size": 14},
                )
    apply_layout(figure, x="main network it sits in", y="sub-network", height=90 + 62 * len(names))
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(type="category", side="bottom")
    return figure
