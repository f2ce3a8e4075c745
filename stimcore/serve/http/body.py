"""Request bodies: read piece by piece within the limits, whatever their Content-Type; JSON is checked before it is parsed."""

import asyncio
import json
import re
import zlib
from typing import Any, NoReturn

import numpy as np
from starlette.requests import ClientDisconnect, Request

from stimcore.errors import UsageError
from stimcore.serve.errors import TooLarge, TooSlow
from stimcore.serve.limits import Limits

# The possessive quantifier keeps a long text without a closing quote from being matched again from each of its characters.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""Content-Encoding -> zlib's window bits; 16 more select the gzip format."""


async def read_body(request: Request, limits: Limits, max_bytes: int | None = None) -> bytes:
    """Return the body of a request, decompressed.

    Args:
        request: A request whose body was not read yet.
        limits: `body_bytes`, `body_s` and `chunks` apply.
        max_bytes: Limit that replaces `limits.body_bytes`.

    Raises:
        TooLarge: The body has more bytes than allowed, as sent or decompressed, or comes in too many chunks.
        TooSlow: The body did not arrive within `body_s`.
        UsageError: The compression is unknown or broken, Content-Length is not a number, or the client disconnected.
    """
    limit = max_bytes or limits.body_bytes
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise UsageError(f"Content-Length is '{length[:40]}'", allowed="a number")
    if int(length) > limit:  # refused before a byte of the body is read
        raise TooLarge(f"a body of {int(length):,} bytes", allowed=f"at most {limit:,}")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", *_WINDOW_BITS):
        raise UsageError(f"Content-Encoding is '{encoding[:40]}'", allowed="gzip, deflate, or none")
    inflate = zlib.decompressobj(_WINDOW_BITS[encoding]) if encoding in _WINDOW_BITS else None
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_s):
            async for piece in request.stream():
                # Each chunk costs time and memory however small it is. The protocol counts them: the application receives
                # several in one piece.
                if request.scope["state"].get("chunks", 0) > limits.chunks:
                    raise TooLarge(f"a body in more than {limits.chunks:,} pieces", allowed="fewer and larger ones")
                # A few kilobytes can inflate to gigabytes, so that the limit bounds the output of every single call: one byte
                # beyond the limit is enough to know that the body is too large.
                body += piece if inflate is None else inflate.decompress(piece, limit + 1 - len(body))
                if len(body) > limit or (inflate is not None and inflate.unconsumed_tail):
                    raise TooLarge(f"a body of more than {limit:,} bytes", allowed=f"at most {limit:,}, decompressed")
    except TimeoutError as reason:
        raise TooSlow(f"the body did not arrive within {limits.body_s:g} s") from reason
    except zlib.error as reason:
        raise UsageError(f"the body is not {encoding}") from reason
    except ClientDisconnect as reason:
        raise UsageError("the client went away") from reason
    if inflate is not None and not inflate.eof:
        raise UsageError(f"the {encoding} body is cut off")
    return bytes(body)


def parse_json(text: bytes, limits: Limits) -> Any:
    """Return the value of a JSON text.

    Raises:
        TooLarge: The text has more than `limits.json_bytes`.
        UsageError: The text is not JSON, is nested deeper than `limits.json_depth`, or has NaN or Infinity, which JSON lacks.

    Example:
        >>> parse_json(b'{"inputs": []}', Limits())
        {'inputs': []}
    """
    if len(text) > limits.json_bytes:
        raise TooLarge(
            f"{len(text):,} bytes of JSON", allowed=f"at most {limits.json_bytes:,}", todo="Send tensors as binary data."
        )
    check_depth(text, limits)
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as reason:
        raise UsageError(f"failed to parse the request JSON buffer: {str(reason)[:120]}") from reason


def check_depth(text: bytes, limits: Limits) -> None:
    """Refuse JSON that is nested too deeply, before a parser recurses into it.

    Raises:
        UsageError: The text is nested deeper than `limits.json_depth`.
    """
    if json_depth(text) > limits.json_depth:
        raise UsageError("JSON is nested too deeply", allowed=f"{limits.json_depth} brackets within each other")


def json_depth(text: bytes) -> int:
    """Return how deeply brackets are nested, not counting those inside of strings.

    The text need not be JSON. Counting with numpy takes about as long as reading the text; a loop over its characters would
    take longer than parsing.

    Example:
        >>> json_depth(b'{"a": [1, "[[["]}')
        2
    """
    brackets = np.frombuffer(_STRING.sub(b"", text).translate(None, _NOT_BRACKETS), np.uint8)
    if not len(brackets):
        return 0
    steps = np.where((brackets == ord("[")) | (brackets == ord("{")), 1, -1)
    return int(steps.cumsum().max())


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
