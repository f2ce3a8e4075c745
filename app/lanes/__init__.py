"""Accuracy lanes: one per method on one shared axis, with an interval that narrows while images are counted.

An inline component, because it updates in place; a plotly chart is taken down and built again on every change.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from app.inline import inline

_HTML = """<div class="lanes" role="img"></div>
<p class="heard" aria-live="polite"></p>
"""
_component = inline(Path(__file__).parent, _HTML)


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One method.

    Attributes:
        key: Tells lanes apart.
        name: For a reader.
        glyph: The method's symbol.
        color: `#RRGGBB`.
        full_pct: Accuracy of the full network, in percent: the dotted line.
        accuracy_pct: In percent; None before the first image.
        interval_pct: 95%, of the accuracy.
        drop_pct: Points lost against the full network; None where nothing was changed.
        drop_interval_pct: 95%, paired.
        guess_pct: What the visitor expected, or None.
        hidden: Whether the answer is still covered.
    """

    key: str
    name: str
    glyph: str
    color: str
    full_pct: float
    accuracy_pct: float | None
    interval_pct: tuple[float, float] = (0.0, 100.0)
    drop_pct: float | None = None
    drop_interval_pct: tuple[float, float] = (0.0, 0.0)
    guess_pct: float | None = None
    hidden: bool = False


def in_words(lanes: Sequence[Lane]) -> str:
    """The lanes as a sentence for a screen reader."""
    parts = []
    for lane in lanes:
        if lane.hidden:
            parts.append(f"{lane.name}: answer hidden")
        elif lane.accuracy_pct is None:
            parts.append(f"{lane.name}: measuring")
        else:
            low, high = lane.interval_pct
            text = f"{lane.name} {lane.accuracy_pct:.1f} percent, between {low:.1f} and {high:.1f}"
            if lane.drop_pct is not None:
                text += f", {_loses(lane.drop_pct)}"
            parts.append(text)
    return "; ".join(parts)


def _loses(drop_pct: float) -> str:
    return f"{abs(drop_pct):.1f} points {'less' if drop_pct >= 0 else 'more'} than the full network"


def lanes(rows: Sequence[Lane], *, done: bool, large: bool, key: str) -> None:
    """Draws the lanes; the sentence is spoken once, when `done`."""
    data = {"rows": [asdict(row) for row in rows], "label": in_words(rows), "done": done, "large": large}
    _component(key=key, data=data)
