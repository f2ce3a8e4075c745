"""One colour, symbol and dash per training method, the same in every figure of dashboard and report.

Colours keep at least 3:1 contrast on light and dark ground and stay apart under the three colour-vision deficiencies (smallest
CIE76 difference 17.9, common against stimulative at least 92); symbol and dash repeat what the colour shows.
"""

import re
from dataclasses import dataclass, replace

from stimcore.methods.names import short_name


@dataclass(frozen=True)
class Style:
    """How a method is drawn and named.

    Attributes:
        label: Name for a reader.
        color: `#RRGGBB`.
        symbol: plotly's name of the marker.
        glyph: The same marker as a character.
        dash: plotly's name of the line.
    """

    label: str
    color: str
    symbol: str
    glyph: str
    dash: str


STYLES: dict[str, Style] = {
    "common": Style("Common training", "#D55E00", "diamond", "◆", "dash"),
    "layer_supervision": Style("Layer supervision", "#961EFF", "cross", "✚", "longdash"),
    "stage_supervision": Style("Stage supervision", "#9678FF", "x", "✖", "longdashdot"),
    "self_distillation": Style("Self distillation", "#009E73", "triangle-up", "▲", "dot"),
    "stochastic_depth": Style("Stochastic depth", "#CC79A7", "square", "■", "dashdot"),
    "stimulative": Style("Stimulative training", "#0072B2", "circle", "●", "solid"),
}
"""Method -> style, in the order of `stimcore.analysis.comparisons.METHOD_ORDER`."""

OTHER = Style("", "#7A7A7A", "star", "★", "solid")
"""Style of imported weights and of methods that the table does not list."""

VARIANTS = (
    ("circle", "●", "solid"),
    ("circle-open", "○", "dot"),
    ("circle-cross", "⊕", "dash"),
    ("circle-x", "⊗", "dashdot"),
    ("hexagon", "⬢", "longdash"),
    ("hexagon-open", "⬡", "longdashdot"),
)
"""Symbol, glyph and dash of several bundles of a method that is drawn as circles; they share its colour."""

SHAPES = {"diamond": "◇◈", "cross": "✛✜", "x": "✕✗", "triangle-up": "△◬", "square": "□▣", "star": "☆✪"}
"""Symbol of another method -> glyphs of its second and third bundle: open, and open with a dot. Further ones are circles."""


NAMED = {
    "stimulative-deletions": "Stimulative, any block",
    "stimulative-labels": "Stimulative, from labels",
    "stimulative-sandwich": "Stimulative, with the smallest",
    "stochastic_depth-0.5": "Stochastic depth (p = 0.5)",
}
"""Folder of a bundle -> label of a way to train that has a name of its own: sub-networks are drawn by deleting any blocks,
learn from the labels instead of the main network, or have the smallest one beside them in every step; another last survival."""

EXTRA = (
    (re.compile(r"^lambda ?(?=[\d.])"), "λ = "),
    (re.compile(r"^epochs(\d+)$"), r"\1 epochs"),
)
"""What the name of a folder adds to its method -> how a reader writes it: lambda and epochs."""


def method_style(method: str, name: str = "") -> Style:
    """Return the style of a bundle; its label adds what the folder's name says beyond the method.

    Args:
        method: Training method.
        name: Folder of the bundle; the method's where it is empty.

    Example:
        >>> method_style("stimulative").label, method_style("stimulative", "stimulative-lambda5").label
        ('Stimulative training', 'Stimulative training (λ = 5)')
        >>> method_style("imported", "my_weights").label
        'my weights'
        >>> method_style("stimulative", "stimulative-deletions").label
        'Stimulative, any block'
        >>> method_style("common", "common-epochs78").label, method_style("stochastic_depth", "stochastic_depth-0.5").label
        ('Common training (78 epochs)', 'Stochastic depth (p = 0.5)')
        >>> method_style("my_methods:Mixed_up").label, method_style("my_methods:Mixed_up", "Mixed_up-share-0.25").label
        ('Mixed_up', 'Mixed_up (share-0.25)')
    """
    base = short_name(method)
    name = name or base
    style = STYLES.get(method, OTHER)
    if name in NAMED:
        return replace(style, label=NAMED[name])
    own = ":" in method  # the words of a user's own stay as they are: underscores are part of names of classes and options
    if own:
        style = replace(style, label=base)
    if name == base and style.label:
        return style
    extra = name.removeprefix(base).strip("-_ ")
    extra = extra if own else extra.replace("_", " ")
    for pattern, words in EXTRA:
        extra = pattern.sub(words, extra)
    label = f"{style.label} ({extra})" if style.label and extra else style.label or name.replace("_", " ")
    return replace(style, label=label)


def variant(style: Style, number: int) -> Style:
    """Return the style of the bundle with this number among several of one method; number 0 keeps the method's style.

    Example:
        >>> variant(STYLES["stimulative"], 1).symbol
        'circle-open'
        >>> variant(STYLES["stochastic_depth"], 1).symbol
        'square-open'
    """
    if number == 0:
        return style
    symbol, glyph, dash = VARIANTS[number % len(VARIANTS)]
    glyphs = SHAPES.get(style.symbol, "")
    if number <= len(glyphs):
        symbol, glyph = f"{style.symbol}-open{'-dot' if number > 1 else ''}", glyphs[number - 1]
    return replace(style, symbol=symbol, glyph=glyph, dash="solid" if dash == style.dash else dash)


def tint(color: str, alpha: float) -> str:
    """Return a `#RRGGBB` colour as `rgba(...)` with an opacity in [0, 1].

    Example:
        >>> tint("#0072B2", 0.5)
        'rgba(0,114,178,0.5)'
    """
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"
