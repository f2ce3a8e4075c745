"""What all figures share: a method's name, colour, dash and symbol, and the layout around the axes.

The colours keep apart under every common colour blindness and on white; dash and symbol say the same without colour.
"""

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go


@dataclass(frozen=True)
class Look:
    """How a method is drawn and named."""

    name: str
    colour: str
    dash: str
    symbol: str


LOOKS: dict[str, Look] = {
    "common": Look("common", "#D55E00", "dash", "diamond"),
    "layer_supervision": Look("layer supervision", "#961EFF", "dashdot", "cross"),
    "stage_supervision": Look("stage supervision", "#9678FF", "longdash", "x"),
    "self_distillation": Look("self distillation", "#009E73", "dot", "triangle-up"),
    "stochastic_depth": Look("stochastic depth", "#CC79A7", "longdashdot", "square"),
    "stimulative": Look("stimulative", "#0072B2", "solid", "circle"),
}
"""In the order of Table r3."""
TEXT = "#101010"
GRID = "#E3E3E3"


def look(method: str) -> Look:
    """A method's look; grey under its own name for one that the table does not know."""
    return LOOKS.get(method, Look(method.replace("_", " "), "#606060", "solid", "star"))


def order(method: str) -> int:
    """Place of a method in tables and legends: that of Table r3, unknown ones last."""
    return list(LOOKS).index(method) if method in LOOKS else len(LOOKS)


def laid_out(figure: go.Figure, *, height: int = 420, **layout: Any) -> go.Figure:
    """The figure with the shared layout; drawn for a light background, and no wider than the page."""
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 64, "r": 16, "t": 48, "b": 56},
        font={"family": "system-ui, DejaVu Sans, sans-serif", "size": 14, "color": TEXT},
        paper_bgcolor="#FFFFFF",
        plot_bgcolor="#FFFFFF",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hoverlabel={"font": {"size": 13}},
        **layout,
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, linecolor=TEXT, ticks="outside", automargin=True)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, linecolor=TEXT, ticks="outside", automargin=True)
    return figure
