"""Typed reading of JSON objects: every value has the type that the schema says, or the error names its key."""

from collections.abc import Mapping
from typing import Any

MISSING: Any = object()
"""Stands for a key without a default."""


class Fields:
    """A JSON object whose values are read by key and type. Keys that are never read are ignored.

    Args:
        value: The parsed JSON.
        name: What the object is, for messages.

    Example:
        >>> fields = Fields({"seed": 3, "label": None}, "manifest.json")
        >>> fields.whole("seed"), fields.text_or_none("label"), fields.whole("images", 0)
        (3, None, 0)
        >>> fields.text("seed")
        Traceback (most recent call last):
            ...
        ValueError: 'seed' of manifest.json is 3, not a text
    """

    def __init__(self, value: Any, name: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{name} is not a JSON object")
        self._value, self._name = value, name

    def text(self, key: str, default: Any = MISSING) -> str:
        """Return a text."""
        value: str = self._read(key, str, "a text", default)
        return value

    def text_or_none(self, key: str) -> str | None:
        """Return a text, None where the key is missing or null."""
        return None if self._value.get(key) is None else self.text(key)

    def whole(self, key: str, default: Any = MISSING) -> int:
        """Return a whole number from 0."""
        value: int = self._read(key, int, "a whole number", default)
        if value < 0:
            raise ValueError(f"'{key}' of {self._name} is {value}, a negative number")
        return value

    def whole_or_none(self, key: str) -> int | None:
        """Return a whole number from 0, None where the key is missing or null."""
        return None if self._value.get(key) is None else self.whole(key)

    def number(self, key: str) -> float:
        """Return a finite number."""
        value = self._read(key, (int, float), "a number", MISSING)
        if not abs(value) < float("inf"):
            raise ValueError(f"'{key}' of {self._name} is {value}, not a finite number")
        return float(value)

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value: bool = self._read(key, bool, "true or false", MISSING)
        return value

    def mapping(self, key: str, default: Any = MISSING) -> dict[str, Any]:
        """Return a JSON object."""
        value: dict[str, Any] = self._read(key, dict, "an object", default)
        return value

    def items(self, key: str, default: Any = MISSING) -> list[Any]:
        """Return a JSON array."""
        value: list[Any] = self._read(key, list, "a list", default)
        return value

    def texts(self, key: str, default: Any = MISSING) -> tuple[str, ...]:
        """Return an array of texts."""
        return tuple(_checked(item, str, f"'{key}' of {self._name}", "a list of texts") for item in self.items(key, default))

    def texts_by_key(self, key: str) -> dict[str, str]:
        """Return an object whose values are texts."""
        for value in self.mapping(key).values():
            _checked(value, str, f"'{key}' of {self._name}", "an object of texts")
        return self.mapping(key)

    def _read(self, key: str, kind: Any, words: str, default: Any) -> Any:
        if key not in self._value:
            if default is MISSING:
                raise ValueError(f"{self._name} has no '{key}'")
            return default
        return _checked(self._value[key], kind, f"'{key}' of {self._name}", words)


def _checked(value: Any, kind: Any, name: str, words: str) -> Any:
    # to Python a bool is an int; to a reader of JSON it is not a number
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} is {str(value)[:60]}, not {words}")
    return value


def shape_of(value: Mapping[str, Any], key: str) -> tuple[int, int, int]:
    """Return a value that is a shape `[C, H, W]`.

    Raises:
        ValueError: It is not three whole numbers from 1.
    """
    sizes = Fields(dict(value), "the experiment").items(key)
    if len(sizes) != 3 or not all(type(size) is int and size > 0 for size in sizes):
        raise ValueError(f"'{key}' is {sizes}, not three whole numbers")
    channels, height, width = sizes
    return channels, height, width
