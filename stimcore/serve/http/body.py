"""Request bodies, read piece by piece within the limits, whatever their Content-Type."""

import asyncio
import zlib

from starlette.requests import ClientDisconnect, Request

from stimcore.errors import UsageError
from stimcore.serve.errors import TooLarge, TooSlow
from stimcore.serve.http.budget import Share
from stimcore.serve.limits import Limits
from stimcore.serve.parsing import parse_length

_INFLATE_BYTES = 1 << 20
"""Bytes that are decompressed before other requests get their turn."""
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
