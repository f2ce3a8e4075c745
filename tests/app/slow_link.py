"""A slow link: a proxy on the loopback interface that delays what passes, bounds its rate, and can be cut."""

import asyncio
import contextlib
import threading
from typing import Self

CHUNK_BYTES = 4096


class SlowLink:
    """Forwards connections to a port of this machine as a slow network would; runs in a thread of its own.

    Args:
        port: Port to connect to.
        round_trip_s: Time that a byte and its answer need beside what the rate costs.
        bytes_per_s: Rate of each direction, for all connections together.

    Attributes:
        port: Port on which it listens.
    """

    def __init__(self, port: int, *, round_trip_s: float = 0.3, bytes_per_s: float = 125_000) -> None:
        self._target, self._delay_s, self._rate = port, round_trip_s / 2, bytes_per_s
        self._free = {"up": 0.0, "down": 0.0}
        self._cut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._connect, "127.0.0.1", 0), self._loop)
        self._server = starting.result(10)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_reason: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self) -> None:
        """Break all connections and refuse new ones."""
        self._cut = True

        def close() -> None:
            for writer in self._writers:
                writer.transport.abort()

        self._loop.call_soon_threadsafe(close)

    def join(self) -> None:
        """Accept connections again."""
        self._cut = False

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self._target)
        both = {writer, other_writer}
        self._writers |= both
        try:
            await asyncio.gather(self._pump(reader, other_writer, "up"), self._pump(other_reader, writer, "down"))
        finally:
            self._writers -= both
            for end in both:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str) -> None:
        """Pass bytes on, each after the time that the link needs for it and for everything before it."""
        passing: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)

        async def read() -> None:
            data = b"-"
            while data:
                with contextlib.suppress(ConnectionError):
                    data = await reader.read(CHUNK_BYTES)
                self._free[direction] = max(self._loop.time(), self._free[direction]) + len(data) / self._rate
                await passing.put((self._free[direction] + self._delay_s, data))
                if self._cut:
                    return

        reading = asyncio.create_task(read())
        try:
            while True:
                at, data = await passing.get()
                await asyncio.sleep(max(0.0, at - self._loop.time()))
                if not data:
                    writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()
        except (ConnectionError, OSError):
            return
        finally:
            reading.cancel()
