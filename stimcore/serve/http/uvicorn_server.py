"""The HTTP front: uvicorn with a clock on every head, a bound on connections, and an end that drains."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from stimcore.errors import StimcoreError
from stimcore.serve.http.app import application
from stimcore.serve.limits import Limits
from stimcore.serve.service import Service


class Counting(h11.Connection):
    """HTTP/1.1 as it arrives, counting the pieces of a body: the application gets them in larger ones."""

    pieces = 0

    def next_event(self) -> Any:
        """As h11 says."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.pieces = 0
        elif isinstance(event, h11.Data):
            self.pieces += event.chunk_start
        return event


def protocol(limits: Limits) -> type[H11Protocol]:
    """uvicorn's HTTP/1.1, less clients that send or read one byte a second, and less those beyond `connections`."""

    class Bounded(H11Protocol):
        _clock: asyncio.TimerHandle | None = None
        _stalled: asyncio.TimerHandle | None = None

        def __init__(self, *words: Any, **named: Any) -> None:
            super().__init__(*words, **named)
            self.conn = self._counting = Counting(h11.SERVER)

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                transport.abort()
                return
            self._clock = self.loop.call_later(limits.header_s, transport.abort)

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before:  # a head is complete
                self._stop()
            elif self._clock is None and (self.cycle is None or self.cycle.response_complete):
                self._clock = self.loop.call_later(limits.header_s, self.transport.abort)

        def handle_events(self) -> None:
            super().handle_events()
            if self.scope is not None:
                self.scope["state"]["pieces"] = self._counting.pieces

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stalled = self.loop.call_later(limits.write_s, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._stalled is not None:
                self._stalled.cancel()
                self._stalled = None

        def timeout_keep_alive_handler(self) -> None:
            self.transport.abort()  # closing would wait for a reader that does not read

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            if self._stalled is not None:
                self._stalled.cancel()
            super().connection_lost(exc)

        def _stop(self) -> None:
            if self._clock is not None:
                self._clock.cancel()
                self._clock = None

    return Bounded


class Front(uvicorn.Server):
    """uvicorn, whose signals are ours: the end is an exit code, not a re-raised signal."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are handled by `run`."""
        yield


async def run(server: Service, sock: socket.socket, *, watch_input: bool = False) -> StimcoreError | None:
    """Serves until SIGTERM, SIGINT, or, when `watch_input`, until standard input closes.

    Returns:
        Why it could not go on, when it was not asked to end.
    """
    limits = server.limits
    front = Front(
        uvicorn.Config(
            application(server),
            http=protocol(limits),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=int(limits.keep_alive_s),
            timeout_graceful_shutdown=max(1, int(limits.drain_s)),
        )
    )

    def end() -> None:
        server.drain()
        front.should_exit = True

    def look() -> None:
        tasks.add(task := asyncio.create_task(server.rescan()))
        task.add_done_callback(tasks.discard)

    tasks: set[asyncio.Task[Any]] = set()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, look)
    server.pool.on_fatal = end
    if watch_input:
        tasks.add(asyncio.create_task(_until_closed(end)))
    await front.serve(sockets=[sock])
    for task in list(tasks):
        task.cancel()
    return server.pool.fatal


async def _until_closed(end: Any) -> None:
    """Waits until whoever started this process is gone."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(1024):
        pass
    end()
