"""Request bodies: read piece by piece within the limits, whatever their Content-Type says; JSON checked before it is parsed."""

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

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


async def read(request: Request, limits: Limits, max_bytes: int | None = None) -> bytes:
    """The body, decompressed.

    Args:
        request: Not read yet.
        limits: Bounds.
        max_bytes: Instead of `limits.body_bytes`.

    Raises:
        TooLarge: More bytes than allowed, as sent or decompressed, or in too many pieces.
        TooSlow: It did not arrive in time.
        UsageError: A broken or unknown compression, a Content-Length that is no number, a client that went away.
    """
    most = max_bytes or limits.body_bytes
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise UsageError(f"Content-Length is '{length[:40]}'", allowed="a number")
    if int(length) > most:
        raise TooLarge(f"a body of {int(length):,} bytes", allowed=f"at most {most:,}")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", *_WINDOWS):
        raise UsageError(f"Content-Encoding is '{encoding[:40]}'", allowed="gzip, deflate, or none")
    inflate = zlib.decompressobj(_WINDOWS[encoding]) if encoding in _WINDOWS else None
    out = bytearray()
    try:
        async with asyncio.timeout(limits.body_s):
            async for piece in request.stream():
                if request.scope["state"].get("pieces", 0) > limits.chunks:
                    raise TooLarge(f"a body in more than {limits.chunks:,} pieces", allowed="fewer and larger ones")
                out += piece if inflate is None else inflate.decompress(piece, most + 1 - len(out))
                if len(out) > most or (inflate is not None and inflate.unconsumed_tail):
                    raise TooLarge(f"a body of more than {most:,} bytes", allowed=f"at most {most:,}, decompressed")
    except TimeoutError as reason:
        raise TooSlow(f"the body did not arrive within {limits.body_s:g} s") from reason
    except zlib.error as reason:
        raise UsageError(f"the body is not {encoding}") from reason
    except ClientDisconnect as reason:
        raise UsageError("the client went away") from reason
    if inflate is not None and not inflate.eof:
        raise UsageError(f"the {encoding} body is cut off")
    return bytes(out)


def parse(text: bytes, limits: Limits) -> Any:
    """A JSON value.

    Raises:
        TooLarge: More bytes than allowed.
        UsageError: No JSON, nested too deeply, or with NaN or Infinity, which JSON does not have.
    """
    if len(text) > limits.json_bytes:
        raise TooLarge(
            f"{len(text):,} bytes of JSON", allowed=f"at most {limits.json_bytes:,}", todo="Send tensors as binary data."
        )
    if depth(text) > limits.json_depth:
        raise UsageError("JSON is nested too deeply", allowed=f"{limits.json_depth} brackets within each other")
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as reason:
        raise UsageError(f"failed to parse the request JSON buffer: {str(reason)[:120]}") from reason


def depth(text: bytes) -> int:
    """Most brackets within each other, outside of strings."""
    brackets = np.frombuffer(_STRING.sub(b"", text).translate(None, _NOT_BRACKETS), np.uint8)
    if not len(brackets):
        return 0
    steps = np.where((brackets == ord("[")) | (brackets == ord("{")), 1, -1)
    return int(steps.cumsum().max())


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
