"""Many tabs without browsers: websocket clients that poll like Streamlit's page, and what their polls cost.

The messages are Streamlit's protocol, read from the installed package.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil
import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

PATIENCE_S = 60.0
"""A run of the page that takes longer is a failure."""


@dataclass(frozen=True)
class Crowd:
    """What a number of visitors saw and cost.

    Attributes:
        polls_ms: Milliseconds of every poll, from its sending to the end of its run.
        cpu_share: Of one core, of the dashboard's process while they polled.
        resident_mib: That the process grew by, per visitor.
    """

    polls_ms: Sequence[float]
    cpu_share: float
    resident_mib: float


class Visitor:
    """One tab: runs the page once, then every fragment that the page wants to have polled.

    Attributes:
        polls_ms: One number per poll that has ended.
    """

    def __init__(self) -> None:
        self.polls_ms: list[float] = []
        self._fragments: dict[str, float] = {}
        self._finished = asyncio.Event()
        self._whole = True
        self._reader: asyncio.Task[None] | None = None

    async def open(self, url: str, query: str) -> None:
        """Connect and wait for the first run of the page.

        Args:
            url: Of the dashboard, `http://...`.
            query: What follows the question mark.
        """
        where = url.replace("http", "ws", 1) + "/_stcore/stream"
        self._socket = await websockets.connect(
            where,
            subprotocols=[websockets.Subprotocol("streamlit")],
            origin=websockets.Origin(url),
            max_size=None,
        )
        self._reader = asyncio.create_task(self._read())
        await self._run(query=query)

    async def poll(self) -> None:
        """Poll until no fragment asks for polls any more."""
        while self._fragments:
            fragment, interval_s = next(iter(self._fragments.items()))
            await asyncio.sleep(interval_s)
            if fragment in self._fragments:
                start = time.perf_counter()
                await self._run(fragment=fragment)
                self.polls_ms.append(1e3 * (time.perf_counter() - start))

    async def close(self) -> None:
        """Disconnect."""
        if self._reader:
            self._reader.cancel()
        await self._socket.close()

    async def _run(self, query: str = "", fragment: str = "") -> None:
        message = BackMsg()
        message.rerun_script.query_string = query
        message.rerun_script.fragment_id = fragment
        message.rerun_script.is_auto_rerun = bool(fragment)
        self._whole = not fragment
        self._finished.clear()
        await self._socket.send(message.SerializeToString())
        await asyncio.wait_for(self._finished.wait(), PATIENCE_S)

    async def _read(self) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            async for raw in self._socket:
                message = ForwardMsg()
                message.ParseFromString(raw if isinstance(raw, bytes) else raw.encode())
                match message.WhichOneof("type"):
                    case "new_session" if self._whole:
                        self._fragments.clear()  # a run of the whole page lists again what is polled
                    case "auto_rerun":
                        self._fragments[message.auto_rerun.fragment_id] = message.auto_rerun.interval
                    case "stop_auto_rerun":
                        self._fragments.clear()
                    case "script_finished" if message.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                        self._whole = True  # the poll saw the end and asks for the whole page, which counts as part of it
                    case "script_finished":
                        self._finished.set()


async def _gather(url: str, query: str, number: int, process: psutil.Process) -> Crowd:
    before = process.memory_info().rss
    visitors = [Visitor() for _ in range(number)]
    await asyncio.gather(*(visitor.open(url, query) for visitor in visitors))
    spent, start = process.cpu_times(), time.perf_counter()
    await asyncio.gather(*(visitor.poll() for visitor in visitors))
    used, seconds = process.cpu_times(), time.perf_counter() - start
    share = (used.user + used.system - spent.user - spent.system) / seconds
    grown = (process.memory_info().rss - before) / 2**20 / number
    await asyncio.gather(*(visitor.close() for visitor in visitors))
    return Crowd([ms for visitor in visitors for ms in visitor.polls_ms], share, grown)


def crowd(url: str, query: str, number: int, pid: int) -> Crowd:
    """Open one page in a number of tabs at once, and poll until the job that it shows is done.

    Args:
        url: Of the dashboard.
        query: A state that is measured, not known: otherwise nothing is polled.
        number: Of tabs.
        pid: Of the dashboard's process.

    Raises:
        TimeoutError: A run did not end within `PATIENCE_S`.
    """
    with ThreadPoolExecutor(1) as aside:  # a browser's driver has a loop in this thread
        return aside.submit(asyncio.run, _gather(url, query, number, psutil.Process(pid))).result()
