"""Responses that stay within bounds while they are sent: large ones piece by piece, and streams that count per address."""

from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from stimcore.serve.http.addresses import AddressCounter

PIECE_BYTES = 64 << 10


class PiecewiseResponse(Response):
    """A response whose body is sent in pieces of 64 KiB.

    uvicorn copies everything that it is given into the buffer of the connection, whereas after every piece it waits until the
    client has read. Bodies of more than one piece count in the budget of memory while they are sent.

    Args are those of starlette's `Response`.
    """

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the response.

        Raises:
            TooMany: The requests and responses of this address hold too many bytes.
            Busy: Those of all addresses together do.
        """
        body = memoryview(self.body)
        if len(body) > PIECE_BYTES:
            scope["state"]["share"].add(len(body))
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, max(1, len(body)), PIECE_BYTES):
            more = start + PIECE_BYTES < len(body)
            await send({"type": "http.response.body", "body": bytes(body[start : start + PIECE_BYTES]), "more_body": more})


class CountedStream(StreamingResponse):
    """A stream that counts among those of its client's address as long as it is open.

    Args:
        content: The stream.
        streams: Counts the streams of each address.
        **words: As for starlette's `StreamingResponse`.
    """

    def __init__(self, content: AsyncIterator[bytes], streams: AddressCounter, **words: Any) -> None:
        super().__init__(content, **words)
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream.

        Raises:
            TooMany: The address has as many open streams as it may.
        """
        with self._streams.one(scope["state"]["address"]):
            await super().__call__(scope, receive, send)
