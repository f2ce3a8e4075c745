"""The picture wall: the same test pictures once per method, in colour where the method is right, greyed where it is wrong."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stimcore.web.words import ENGLISH, Words


@dataclass(frozen=True)
class WallPicture:
    """One picture.

    Attributes:
        label: Index of the true class.
        png: The picture as a PNG file in base64.
    """

    label: int
    png: str


@dataclass(frozen=True, kw_only=True)
class WallMethod:
    """What one method's network says to the pictures.

    Attributes:
        name: The method's name for a reader.
        glyph: The method's symbol.
        color: `#RRGGBB`.
        classes: For each picture the index of its answer.
        confidence: For each picture how sure it is, in [0, 1].
    """

    name: str
    glyph: str
    color: str
    classes: Sequence[int]
    confidence: Sequence[float]


def payload(
    pictures: Sequence[WallPicture],
    methods: Sequence[WallMethod],
    classes: Sequence[str],
    *,
    tinted: bool,
    words: Words = ENGLISH,
) -> dict[str, Any]:
    """Return the data of the script `wall.js`, as plain JSON types.

    Args:
        pictures: The pictures, the same for every method.
        methods: In the order in which they are drawn.
        classes: Names of the classes.
        tinted: Give the pictures the colour of the method that is right: pictures in grey have no colour to show.
        words: The language.

    Example:
        >>> method = WallMethod(name="Common", glyph="◆", color="#D55E00", classes=[1], confidence=[0.75])
        >>> payload([WallPicture(0, "")], [method], ["shoe", "bag"], tinted=True)["methods"][0]["classes"]
        [1]
    """
    return {
        "pictures": [asdict(picture) for picture in pictures],
        "methods": [asdict(method) for method in methods],
        "classes": list(classes),
        "tinted": tinted,
        "words": words.section("wall"),
    }
