"""One colour, symbol and dash per training method, the same on every page.

Colours keep at least 3:1 contrast on both themes and stay apart under the three colour-vision deficiencies (smallest
CIE76 difference 17.9, common against stimulative at least 92); symbol and dash repeat what colour says.
"""

import re
from dataclasses import dataclass, replace

from stimcore.serve.types import MethodInfo


@dataclass(frozen=True)
class Style:
    """How a method looks.

    Attributes:
        label: Its name for a reader.
        color: `#RRGGBB`.
        symbol: plotly's marker.
        glyph: The same marker as a character.
        dash: plotly's line.
    """

    label: str
    color: str
    symbol: str
    glyph: str
    dash: str


STYLES: dict[str, Style] = {
    "common": Style("Common training", "#D55E00", "diamond", "◆", "dash"),
    "stimulative": Style("Stimulative training", "#0072B2", "circle", "●", "solid"),
    "self_distillation": Style("Self distillation", "#009E73", "triangle-up", "▲", "dot"),
    "stochastic_depth": Style("Stochastic depth", "#CC79A7", "square", "■", "dashdot"),
    "layer_supervision": Style("Layer supervision", "#961EFF", "cross", "✚", "longdash"),
    "stage_supervision": Style("Stage supervision", "#9678FF", "x", "✖", "longdashdot"),
}
"""In the order in which legends list them."""

OTHER = Style("", "#7A7A7A", "star", "★", "solid")
"""Imported weights, and methods that came later."""


def style(method: MethodInfo) -> Style:
    """The look of a bundle; its folder's name where that says more than the method's (`stimulative-lambda5`)."""
    base = STYLES.get(method.method, OTHER)
    if method.name == method.method and base.label:
        return base
    extra = method.name.removeprefix(method.method).strip("-_ ").replace("_", " ")
    extra = re.sub(r"^lambda ?(?=[\d.])", "λ = ", extra)
    label = f"{base.label} ({extra})" if base.label and extra else base.label or method.name.replace("_", " ")
    return Style(label, base.color, base.symbol, base.glyph, base.dash)


VARIANTS = (
    ("circle", "●", "solid"),
    ("circle-open", "○", "dot"),
    ("circle-cross", "⊕", "dash"),
    ("circle-x", "⊗", "dashdot"),
    ("hexagon", "⬢", "longdash"),
    ("hexagon-open", "⬡", "longdashdot"),
)
"""Symbol, glyph and dash that tell bundles of one method apart; their colour says that it is one method."""


def variant(base: Style, number: int) -> Style:
    """The look of the bundle with this number among several of one method; number 0 looks as usual."""
    if number == 0:
        return base
    symbol, glyph, dash = VARIANTS[number % len(VARIANTS)]
    return replace(base, symbol=symbol, glyph=glyph, dash=dash)


def tint(color: str, alpha: float) -> str:
    """`rgba(...)` of a `#RRGGBB`."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"
