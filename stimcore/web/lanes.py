"""Accuracy lanes: one per training method on a shared axis, with an interval that narrows while images are counted.

The script changes the lanes in place. A plotly chart would be removed and built again with every new number.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stimcore.web.words import ENGLISH, Words


@dataclass(frozen=True, kw_only=True)
class Lane:
    """What is known of one training method.

    Attributes:
        key: Identifies the lane among the others.
        name: The method's name for a reader.
        glyph: The method's symbol.
        color: `#RRGGBB`.
        full_pct: Accuracy of the full network, in [0, 100]: the dotted line.
        accuracy_pct: In [0, 100]; None before the first image.
        interval_pct: 95% interval of the accuracy.
        drop_pct: Points lost against the full network; None where nothing was changed.
        drop_interval_pct: 95% interval of the drop, paired over images.
        guess_pct: What the visitor expected, in [0, 100]; None without a guess.
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


def spoken(lanes: Sequence[Lane], words: Words = ENGLISH) -> str:
    """Return the lanes as a sentence for a screen reader.

    Example:
        >>> spoken([Lane(key="a", name="Common", glyph="◆", color="#D55E00", full_pct=90.0, accuracy_pct=None)])
        'Common: measuring'
    """
    return "; ".join(_spoken_lane(lane, words) for lane in lanes)


def _spoken_lane(lane: Lane, words: Words) -> str:
    if lane.hidden:
        return words.say("lanes.spoken_hidden", name=lane.name)
    if lane.accuracy_pct is None:
        return words.say("lanes.spoken_measuring", name=lane.name)
    accuracy, low, high = (words.fixed(value, 1) for value in (lane.accuracy_pct, *lane.interval_pct))
    text = words.say("lanes.spoken", name=lane.name, accuracy=accuracy, low=low, high=high)
    if lane.drop_pct is None:
        return text
    compared = "lanes.spoken_less" if lane.drop_pct >= 0 else "lanes.spoken_more"
    return words.say(compared, lane=text, points=words.fixed(abs(lane.drop_pct), 1))


def payload(lanes: Sequence[Lane], *, done: bool, large: bool, words: Words = ENGLISH) -> dict[str, Any]:
    """Return the data of the script `lanes.js`, as plain JSON types.

    Args:
        lanes: In the order in which they are drawn.
        done: Whether the numbers are final: a screen reader then reads them out once.
        large: Draw them for a projector.
        words: The language.
    """
    return {
        "rows": [asdict(lane) for lane in lanes],
        "label": spoken(lanes, words),
        "done": done,
        "large": large,
        "words": words.section("lanes") | {"decimal": words.say("number.decimal")},
    }
