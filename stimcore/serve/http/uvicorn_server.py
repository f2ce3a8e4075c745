"""The uvicorn server: HTTP/1.1 with time limits and bounded connections, signals, and an end that drains."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from stimcore.errors import StimcoreError, UsageError
from stimcore.serve.http.addresses import UNKNOWN
from stimcore.serve.http.app import HttpOptions, application, metrics_application
from stimcore.serve.http.connections import RESERVE_HEADER_S, ConnectionTable
from stimcore.serve.http.error_response import encode_error
from stimcore.serve.http.middleware import UNKNOWN_ROUTE, id_of_request, record_request
from stimcore.serve.limits import Limits
from stimcore.serve.metrics import Metrics
from stimcore.serve.service import Service

ENDING = ("SIGTERM", "SIGINT", "SIGBREAK")
"""Signals that ask the server to end; the last one is Ctrl-Break on Windows."""
SEND_BUFFER_BYTES = 128 << 10
"""Bytes that the system buffers for a connection. With buffers of megabytes, the server would see no progress for minutes while
a slow client reads."""

REFUSE_S = 0.5
"""Time at the end of `drain_s`, at most a quarter of it, in which calls without an answer are refused: before uvicorn cancels
their requests."""


_ABSOLUTE_TARGET = re.compile(rb"(?i:https?)://(?P<host>[^/?#]+)(?P<path>.*)", re.DOTALL)


class ChunkCountingConnection(h11.Connection):
    """HTTP/1.1 parser that counts the chunks of a body, refuses requests with two lengths, and reads absolute targets.

    uvicorn joins what has arrived before the application reads it, so that only the parser sees the chunks. Content-Length
    next to Transfer-Encoding is refused, because a proxy in front of the server may follow the other one of the two, and would
    then take a part of the body for the next request.

    A request may name its target as a whole URL, as requests to a proxy do (RFC 9112, 3.2.2). uvicorn gets it as a path, with
    the host of the URL as `Host`, which takes the place of the header: access control checks it like any other.
    """

    chunks = 0

    def next_event(self) -> Any:
        """Return the next event of the connection; see h11.

        Raises:
            RemoteProtocolError: The request is not valid, or has two lengths.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.chunks = 0
            if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
                raise h11.RemoteProtocolError("Content-Length next to Transfer-Encoding")
            if (url := _ABSOLUTE_TARGET.match(event.target)) is not None:
                headers = [(b"host", url["host"]), *((name, value) for name, value in event.headers if name != b"host")]
                path = url["path"] if url["path"].startswith(b"/") else b"/" + url["path"]
                event = h11.Request(method=event.method, target=path, headers=headers, http_version=event.http_version)
        elif isinstance(event, h11.Data):
            self.chunks += event.chunk_start
        return event


class LimitedProtocol(H11Protocol):
    """HTTP/1.1 protocol that closes connections slower than `header_s` and `write_s`, and bounds their number.

    uvicorn has a time limit for idle connections only. A client that sends one byte a second, or reads one, would hold its
    connection, and the memory of its response, for hours. Two timers close such connections:

    - `_head_timer` runs while the head of a request is awaited: from the opening of a connection, and from the first byte of
      every further request. It stops when the head is complete. `body.read_body` limits the time for the body, and uvicorn's
      keep-alive timer the time between requests.
    - `_write_timer` runs while there is more to send than the client has read and the system buffers. It starts anew when the
      client has read something, so that it ends connections that stand still and not those that are slow.

    All timers abort the connection instead of closing it: closing waits until everything written is sent, which takes forever
    if the client does not read. `ConnectionTable` decides which connections are accepted.

    Args:
        config: Configuration that holds the limits.
        **state: What uvicorn passes on to its protocols.
    """

    def __init__(self, config: "ServerConfig", **state: Any) -> None:
        super().__init__(config, **state)
        self._limits, self._table, self._metrics = config.limits, config.connections, config.metrics
        self._reserved = False
        self.conn = self._counting = ChunkCountingConnection(h11.SERVER)
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the clock of a new connection."""
        super().connection_made(transport)
        if (sock := transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._reserved = not self._table.add(self, self.client[0] if self.client else UNKNOWN)
        seconds = min(RESERVE_HEADER_S, self._limits.header_s) if self._reserved else self._limits.header_s
        self._head_timer = self.loop.call_later(seconds, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived; a complete head stops the clock, the start of another one starts it."""
        previous = self.cycle
        super().data_received(data)
        if self.cycle is not previous:  # uvicorn makes a cycle of request and response for every complete head
            self._stop_head_timer()
            self._table.head_complete(self)
        elif self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            # Bytes after a response that do not complete a head are the beginning of the next head. Bytes before the response
            # is complete belong to the body, which `body.read_body` limits.
            self._head_timer = self.loop.call_later(self._limits.header_s, self.transport.abort)

    def handle_events(self) -> None:
        """Handle parsed events, and pass the number of chunks on to the application."""
        previous = self.cycle
        super().handle_events()
        if self.scope is not None:
            self.scope["state"]["chunks"] = self._counting.chunks
            self.scope["state"]["reserved"] = self._reserved
        if self._reserved and self.cycle is not previous:
            self.cycle.default_headers = [*self.cycle.default_headers, (b"connection", b"close")]  # it is for one request

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that is not HTTP/1.1, in the form of all other refusals, and close the connection."""
        status, headers, body = encode_error(UsageError(msg))
        headers |= {"content-length": str(len(body)), "connection": "close"}
        if self.cycle is not None and not self.cycle.response_complete:
            # It was the body that turned out not to be HTTP: the application that waits for it must not answer as well. It logs
            # and counts the request.
            headers["x-request-id"] = id_of_request(dict(self.cycle.scope))
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        else:  # no middleware ever sees this request
            headers["x-request-id"] = request_id = uuid.uuid4().hex
            address = self.client[0] if self.client else UNKNOWN
            fields = {
                "request": request_id,
                "address": address,
                "method": "",
                "route": UNKNOWN_ROUTE,
                "status": status,
                "ms": 0.0,
            }
            record_request(self._metrics, {**fields, "code": UsageError.code})
        head = [(name.encode(), value.encode()) for name, value in headers.items()]
        for event in (h11.Response(status_code=status, headers=head), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def pause_writing(self) -> None:
        """Start the clock of a client that does not read: the system's buffers are full."""
        super().pause_writing()
        self._watch_writing()

    def _watch_writing(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(self._limits.write_s, self._end_if_stuck, left)

    def _end_if_stuck(self, left: int) -> None:
        """End the connection if the client has read nothing since the clock was started."""
        if self.transport.get_write_buffer_size() < left:
            self._watch_writing()
        else:
            self.transport.abort()

    def resume_writing(self) -> None:
        """Stop that clock: the client has read."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def timeout_keep_alive_handler(self) -> None:
        """Abort an idle connection."""
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop both clocks, which would keep the connection in memory."""
        self._table.remove(self)
        self._stop_head_timer()
        if self._write_timer is not None:
            self._write_timer.cancel()
        super().connection_lost(exc)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class ServerConfig(uvicorn.Config):
    """Configuration of uvicorn that carries our limits to the protocol.

    Args:
        app: The application.
        limits: Limits of the server.
        options: `trusted_proxies` applies.
        metrics: Counts requests that are not HTTP, which the application does not get.
        lifespan: Whether the application has a lifespan that starts it.
    """

    def __init__(self, app: ASGIApp, limits: Limits, options: HttpOptions, metrics: Metrics, *, lifespan: bool = True) -> None:
        super().__init__(
            app,
            http=LimitedProtocol,
            ws="none",
            lifespan="on" if lifespan else "off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # uvicorn would believe every X-Forwarded-For that comes from this machine
            # uvicorn hands both to asyncio, which takes fractions of a second
            timeout_keep_alive=limits.keep_alive_s,  # type: ignore[arg-type]
            timeout_graceful_shutdown=limits.drain_s,  # type: ignore[arg-type]
        )
        self.limits, self.metrics = limits, metrics
        self.connections = ConnectionTable(limits, options.trusted_proxies)


class UvicornServer(uvicorn.Server):
    """uvicorn without its signal handlers: after draining it raises the signal again, which hides the exit code."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `run`."""
        yield


async def run(
    service: Service,
    sock: socket.socket,
    options: HttpOptions | None = None,
    *,
    metrics_sock: socket.socket | None = None,
    watch_input: bool = False,
) -> StimcoreError | None:
    """Serve until SIGTERM or SIGINT, until the workers can't go on, or until standard input closes.

    The end has an order. First the service takes no new work and ends jobs and event streams, while connections are still
    accepted: without that, uvicorn would wait for streams that last as long as their jobs. Then uvicorn accepts no connections
    and waits up to `drain_s` for requests in flight. Shortly before that time is over, calls that no worker has answered are
    refused; what goes on even then is cancelled by uvicorn and answered by `ErrorMiddleware`. The lifespan of the application
    stops the workers last, because those requests need them.

    Args:
        service: The service.
        sock: A listening socket.
        options: What concerns HTTP alone.
        metrics_sock: A second listening socket, for `/metrics` alone and without a token; None for none.
        watch_input: Whether to end when standard input closes.

    Returns:
        Why the server could not go on; None when it was asked to end.
    """
    options = options or HttpOptions()
    limits, metrics = service.limits, service.metrics
    tasks: set[asyncio.Task[Any]] = set()  # the event loop itself keeps only weak references to tasks

    def end() -> None:
        service.drain()
        server.should_exit = True
        drain_s = limits.drain_s
        asyncio.get_running_loop().call_later(drain_s - min(REFUSE_S, drain_s / 4), service.refuse_calls)

    def rescan() -> None:
        tasks.add(task := asyncio.create_task(service.rescan()))
        task.add_done_callback(tasks.discard)

    async def end_after_failure() -> None:
        await service.pool.failed.wait()
        end()

    async def end_after_input() -> None:
        await _input_closed()
        end()

    tasks.add(asyncio.create_task(end_after_failure()))
    if watch_input:
        tasks.add(asyncio.create_task(end_after_input()))
    with _handling({name: end for name in ENDING} | {"SIGHUP": rescan}):
        # Making the applications takes most of a second, in which a signal is kept: `end` runs in the event loop, which
        # goes on when both servers are there.
        server = UvicornServer(ServerConfig(application(service, options), limits, options, metrics))
        scraped = UvicornServer(ServerConfig(metrics_application(service), limits, options, metrics, lifespan=False))
        scrapes = None if metrics_sock is None else asyncio.create_task(scraped.serve(sockets=[metrics_sock]))
        await server.serve(sockets=[sock])
        if scrapes is not None:
            scraped.should_exit = True
            await scrapes
    for task in list(tasks):
        task.cancel()
    return service.pool.fatal


@contextlib.contextmanager
def _handling(handlers: Mapping[str, Callable[[], None]]) -> Iterator[None]:
    """Call functions in the event loop when signals arrive, and leave the signals as they were afterwards.

    `loop.add_signal_handler` does the same, and does not exist on Windows.

    Args:
        handlers: Name of a signal -> what is called; names that the system does not know are left out.
    """
    loop = asyncio.get_running_loop()

    def handler(function: Callable[[], None]) -> Callable[..., None]:
        def handle(_number: int, _frame: object) -> None:
            loop.call_soon_threadsafe(function)

        return handle

    numbers = {getattr(signal, name): function for name, function in handlers.items() if hasattr(signal, name)}
    before = {number: signal.signal(number, handler(function)) for number, function in numbers.items()}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


async def _input_closed() -> None:
    """Wait until standard input closes, which it does when the process at its other end is gone, however it ended.

    A thread reads it, because the event loop of Windows can't read such pipes. It is a daemon: the process may end before it.
    """
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def read() -> None:
        # not `sys.stdin.buffer`: this thread would still hold its lock when the interpreter ends, which aborts the process
        while os.read(sys.stdin.fileno(), 1024):
            pass
        with contextlib.suppress(RuntimeError):  # the loop is closed already: the server has ended for another reason
            loop.call_soon_threadsafe(closed.set)

    threading.Thread(target=read, name="standard input", daemon=True).start()
    await closed.wait()
