"""Texts that clients send, read within the limits: JSON, which is checked before it is parsed, and lengths."""

import contextlib
import json
from typing import Any, NoReturn

import numpy as np
import orjson

from stimcore.errors import UsageError
from stimcore.serve.errors import TooLarge
from stimcore.serve.limits import Limits

_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_LENGTH_DIGITS = 18
"""Digits of the longest length that is read: `int` refuses thousands of digits with an error of its own."""


def parse_length(text: str) -> int | None:
    """Return the number of bytes that a header announces; None where the text is not such a number.

    Example:
        >>> parse_length("576"), parse_length("-1"), parse_length("9" * 5000)
        (576, None, None)
    """
    # `isdigit` alone would let digits of other scripts pass, which `int` reads as well.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _LENGTH_DIGITS else None


def parse_json(text: bytes, limits: Limits, max_bytes: int | None = None) -> Any:
    """Return the value of a JSON text in UTF-8.

    Args:
        text: The text.
        limits: `json_bytes` and `json_depth` apply.
        max_bytes: Limit that replaces `limits.json_bytes`.

    Raises:
        TooLarge: The text has more bytes than allowed.
        UsageError: The text is not JSON, is nested deeper than `limits.json_depth`, or has NaN or Infinity, which JSON lacks.

    Example:
        >>> parse_json(b'{"inputs": []}', Limits())
        {'inputs': []}
    """
    limit = max_bytes or limits.json_bytes
    if len(text) > limit:
        raise TooLarge(f"{len(text):,} bytes of JSON", allowed=f"at most {limit:,}", todo="Send tensors as binary data.")
    check_depth(text, limits)
    # Several times as fast as `json`. What it refuses is read again below: it takes no halves of surrogate pairs and no numbers
    # beyond float64, which JSON allows, and gives its reasons in other words.
    with contextlib.suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    try:
        # Decoded here, because `json.loads` would also take UTF-16, in which `check_depth` does not see the quotes.
        return json.loads(text.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as reason:
        raise UsageError(f"failed to parse the request JSON buffer: {str(reason)[:120]}") from reason


def check_depth(text: bytes, limits: Limits) -> None:
    """Refuse JSON that is nested too deeply, before a parser recurses into it.

    Raises:
        UsageError: The text is nested deeper than `limits.json_depth`.
    """
    # a text with few brackets in all can't be nested deeply, and two passes of the C library count them
    if text.count(b"[") + text.count(b"{") <= limits.json_depth:
        return
    if json_depth(text) > limits.json_depth:
        raise UsageError("JSON is nested too deeply", allowed=f"{limits.json_depth} brackets within each other")


def json_depth(text: bytes) -> int:
    """Return how deeply brackets are nested, not counting those inside of strings.

    The text need not be JSON; outside of a string, a backslash hides the quote that follows it. Every step is one pass over the
    text, whatever it holds: a pattern that matches strings would be tried again from every quote of a string that does not end.

    Example:
        >>> json_depth(b'{"a": [1, "[[["]}')
        2
    """
    # Pairs of backslashes go first, so that a backslash before a quote is always one that escapes it.
    bare = text.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_STRUCTURE)
    marks = np.frombuffer(bare, np.uint8)
    quotes = marks == ord('"')
    # Whether the number of quotes so far is odd; the count may overflow, which does not change its last bit.
    inside = np.cumsum(quotes, dtype=np.uint8) & 1
    brackets = marks[(inside == 0) & ~quotes]
    if not len(brackets):
        return 0
    steps = np.where((brackets == ord("[")) | (brackets == ord("{")), np.int8(1), np.int8(-1))
    return max(0, int(steps.cumsum(dtype=np.int32).max()))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
