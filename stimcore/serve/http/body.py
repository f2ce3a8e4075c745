"""Request bodies: read piece by piece within the limits, whatever their Content-Type; JSON is checked before it is parsed."""

import asyncio
import contextlib
import json
import zlib
from typing import Any, NoReturn

import numpy as np
import orjson
from starlette.requests import ClientDisconnect, Request

from stimcore.errors import UsageError
from stimcore.serve.errors import TooLarge, TooSlow
from stimcore.serve.http.budget import Share
from stimcore.serve.limits import Limits

_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_INFLATE_BYTES = 1 << 20
"""Bytes that are decompressed before other requests get their turn."""
_LENGTH_DIGITS = 18
"""Digits of the longest length that is read: `int` refuses thousands of digits with an error of its own."""
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""Content-Encoding -> zlib's window bits; 16 more select the gzip format."""


async def read_body(request: Request, limits: Limits, max_bytes: int | None = None, todo: str = "") -> bytes:
    """Return the body of a request, decompressed.

    Args:
        request: A request whose body was not read yet.
        limits: `body_bytes`, `body_s` and `chunks` apply.
        max_bytes: Limit that replaces `limits.body_bytes`.
        todo: What a client can do whose body is too large.

    Raises:
        TooLarge: The body has more bytes than allowed, as sent or decompressed, or comes in too many chunks.
        TooSlow: The body did not arrive within `body_s`.
        TooMany: The requests of this address hold too many bytes.
        Busy: All requests together hold too many bytes.
        UsageError: The compression is unknown or broken, Content-Length is not a number, or the client disconnected.
    """
    limit = max_bytes or limits.body_bytes
    header = request.headers.get("content-length", "0")
    length = parse_length(header)
    if length is None:
        raise UsageError(f"Content-Length is '{header[:40]}'", allowed="a number")
    if length > limit:  # refused before a byte of the body is read
        raise TooLarge(f"a body of {length:,} bytes", allowed=f"at most {limit:,}", todo=todo)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", *_WINDOW_BITS):
        raise UsageError(f"Content-Encoding is '{encoding[:40]}'", allowed="gzip, deflate, or none")
    inflate = zlib.decompressobj(_WINDOW_BITS[encoding]) if encoding in _WINDOW_BITS else None
    body, share = bytearray(), request.scope["state"]["share"]
    try:
        async with asyncio.timeout(limits.body_s):
            async for piece in request.stream():
                # Each chunk costs time and memory however small it is. The protocol counts them: the application receives
                # several in one piece.
                if request.scope["state"].get("chunks", 0) > limits.chunks:
                    raise TooLarge(f"a body in more than {limits.chunks:,} pieces", allowed="fewer and larger ones")
                if inflate is None:
                    _extend(body, piece, limit, todo, share)
                else:
                    await _inflate(inflate, piece, body, limit, todo, share)
    except TimeoutError as reason:
        raise TooSlow(f"the body did not arrive within {limits.body_s:g} s") from reason
    except zlib.error as reason:
        raise UsageError(f"the body is not {encoding}") from reason
    except ClientDisconnect as reason:
        raise UsageError("the client went away") from reason
    if inflate is not None and not inflate.eof:
        raise UsageError(f"the {encoding} body is cut off")
    return bytes(body)


def _extend(body: bytearray, piece: bytes, limit: int, todo: str, share: Share) -> None:
    """Append a piece to a body, unless the limit or the budget of memory is exceeded."""
    if len(body) + len(piece) > limit:
        raise TooLarge(f"a body of more than {limit:,} bytes", allowed=f"at most {limit:,}, decompressed", todo=todo)
    share.add(len(piece))
    body += piece


async def _inflate(inflate: "zlib._Decompress", piece: bytes, body: bytearray, limit: int, todo: str, share: Share) -> None:
    """Append what a compressed piece holds to a body, in steps between which other requests get their turn.

    A few kilobytes can inflate to gigabytes: every step bounds its output, and the limit is checked after each.
    """
    if inflate.eof and piece:
        raise UsageError("bytes follow the compressed body")
    while True:
        output = inflate.decompress(piece, _INFLATE_BYTES)
        _extend(body, output, limit, todo, share)
        if inflate.eof:  # asked first, because zlib leaves bytes behind the end in `unconsumed_tail` too
            break
        piece = inflate.unconsumed_tail
        if not piece and len(output) < _INFLATE_BYTES:  # a full output may have more behind it, also without further input
            break
        await asyncio.sleep(0)
    if inflate.unused_data:
        raise UsageError("bytes follow the compressed body")


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
