"""Tables r5 and r6 as a picture: the accuracy of small networks inside larger ones."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from stimcore.figures.layout import apply_layout

DARK_BELOW_PCT = 55
"""Cells below this accuracy are dark in the colour scale: their number is white."""

LONG_NAME = 14
"""Characters of a name from which on it takes two lines."""


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
    ticks = {"type": "category", "tickvals": list(names), "ticktext": list(map(_in_lines, names))}
    figure.update_yaxes(autorange="reversed", **ticks)
    figure.update_xaxes(side="bottom", **ticks)
    return figure


def _in_lines(name: str) -> str:
    """Return a long name of a network in two lines: in one it would leave no room for the numbers on a telephone.

    Example:
        >>> _in_lines("d2-3-8-8"), _in_lines("densenet-2-3-12-8-k12")
        ('d2-3-8-8', 'densenet<br>2-3-12-8-k12')
    """
    first, dash, rest = name.partition("-")
    return f"{first}<br>{rest}" if dash and len(name) > LONG_NAME else name
