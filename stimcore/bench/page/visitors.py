"""Many tabs of the dashboard without browsers: websocket clients that speak like Streamlit's page, and what they cost.

The messages are Streamlit's protocol, read from the installed package.
"""

import asyncio
import contextlib
import math
import re
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
        cpu_s: Seconds of processor time of the dashboard's process while they polled.
        seconds: How long they polled.
    """

    polls_ms: Sequence[float]
    cpu_s: float
    seconds: float


@dataclass(frozen=True)
class Watchers:
    """What visitors cost who watch a run in progress.

    Attributes:
        polls: How often they asked, all together.
        server_share: Of one core, of the model server and its workers.
        dashboard_share: Of one core, of the dashboard's process.
    """

    polls: int
    server_share: float
    dashboard_share: float


@dataclass(frozen=True)
class Lecture:
    """What a lecture saw that joined within a short time.

    Attributes:
        stories_ms: Milliseconds from joining to the first story, one for everybody who got one.
        refused: Visitors who got none.
        guessed: Guesses that the class counted in the end.
        resident_mib: Of the dashboard's process, at most.
    """

    stories_ms: Sequence[float]
    refused: int
    guessed: int
    resident_mib: float


class Visitor:
    """One tab: runs the page once, then every fragment that the page wants to have polled.

    Attributes:
        polls_ms: One number per poll that has ended.
        sliders: Ids of the page's sliders, in the order in which they were drawn.
        popovers: Labels of the page's popovers.
    """

    def __init__(self) -> None:
        self.polls_ms: list[float] = []
        self.sliders: list[str] = []
        self.popovers: list[str] = []
        self._fragments: dict[str, float] = {}
        self._finished = asyncio.Event()
        self._query = self._page = ""
        self._whole = True
        self._reader: asyncio.Task[None] | None = None

    async def open(self, url: str, query: str, page: str = "") -> None:
        """Connect and wait for the first run of the page.

        Args:
            url: Of the dashboard, `http://...`.
            query: What follows the question mark.
            page: Path of the page below the address; the first page when empty.
        """
        where = url.replace("http", "ws", 1) + "/_stcore/stream"
        self._socket = await websockets.connect(
            where,
            subprotocols=[websockets.Subprotocol("streamlit")],
            origin=websockets.Origin(url),
            max_size=None,
        )
        self._reader = asyncio.create_task(self._read())
        self._query, self._page = query, page
        await self._run(query=query)

    async def poll(self, end: float = math.inf) -> None:
        """Poll until no fragment asks for polls any more.

        Args:
            end: Time of `time.perf_counter` after which no other poll is waited for.
        """
        while self._fragments:
            fragment, interval_s = next(iter(self._fragments.items()))
            if time.perf_counter() + interval_s > end:
                return
            await asyncio.sleep(interval_s)
            if fragment in self._fragments:
                start = time.perf_counter()
                await self._run(fragment=fragment)
                self.polls_ms.append(1e3 * (time.perf_counter() - start))

    async def move(self, slider: str, value: float) -> None:
        """Move a slider, as a visitor does who guesses.

        Args:
            slider: One of `sliders`.
            value: Where to.
        """
        await self._run(query=self._query, slider=(slider, value))

    async def close(self) -> None:
        """Disconnect."""
        if self._reader:
            self._reader.cancel()
        await self._socket.close()

    async def _run(self, query: str = "", fragment: str = "", slider: tuple[str, float] | None = None) -> None:
        message = BackMsg()
        if slider:
            state = message.rerun_script.widget_states.widgets.add(id=slider[0])
            state.double_array_value.data.append(slider[1])
        message.rerun_script.query_string = query
        message.rerun_script.page_name = self._page
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
                    case "delta":
                        self._note(message)
                    case "auto_rerun":
                        self._fragments[message.auto_rerun.fragment_id] = message.auto_rerun.interval
                    case "stop_auto_rerun":
                        self._fragments.clear()
                    case "script_finished" if message.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                        self._whole = True  # the poll saw the end and asks for the whole page, which counts as part of it
                    case "script_finished":
                        self._finished.set()

    def _note(self, message: ForwardMsg) -> None:
        delta = message.delta
        if delta.WhichOneof("type") == "new_element" and delta.new_element.WhichOneof("type") == "slider":
            name = delta.new_element.slider.id
            self.sliders += [] if name in self.sliders else [name]
        if delta.WhichOneof("type") == "add_block" and delta.add_block.WhichOneof("type") == "popover":
            self.popovers.append(delta.add_block.popover.label)


async def _gather(url: str, query: str, number: int, process: psutil.Process) -> Crowd:
    visitors = [Visitor() for _ in range(number)]
    await asyncio.gather(*(visitor.open(url, query) for visitor in visitors))
    spent, start = _processor_s([process]), time.perf_counter()
    await asyncio.gather(*(visitor.poll() for visitor in visitors))
    used, seconds = _processor_s([process]) - spent, time.perf_counter() - start
    await asyncio.gather(*(visitor.close() for visitor in visitors))
    return Crowd([ms for visitor in visitors for ms in visitor.polls_ms], used, seconds)


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


async def _watch(url: str, query: str, page: str, number: int, seconds: float, process: psutil.Process) -> Watchers:
    visitors = [Visitor() for _ in range(number)]
    await asyncio.gather(*(visitor.open(url, query, page) for visitor in visitors))
    server = process.children(recursive=True)
    before, start = (_processor_s([process]), _processor_s(server)), time.perf_counter()
    await asyncio.gather(*(visitor.poll(start + seconds) for visitor in visitors))
    passed = time.perf_counter() - start
    shares = [(now - then) / passed for now, then in zip((_processor_s([process]), _processor_s(server)), before, strict=True)]
    await asyncio.gather(*(visitor.close() for visitor in visitors))
    return Watchers(sum(len(visitor.polls_ms) for visitor in visitors), dashboard_share=shares[0], server_share=shares[1])


def _processor_s(processes: Sequence[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def watchers(url: str, query: str, page: str, number: int, seconds: float, pid: int) -> Watchers:
    """Open a page in a number of tabs at once, and poll it for some time while a run is in progress.

    Args:
        url: Of the dashboard.
        query: What follows the question mark.
        page: Path of the page below the address.
        number: Of tabs.
        seconds: How long they watch.
        pid: Of the dashboard's process, whose children are the model server and its workers.

    Raises:
        TimeoutError: A run of the page did not end within `PATIENCE_S`.
    """
    with ThreadPoolExecutor(1) as aside:  # a browser's driver has a loop in this thread
        return aside.submit(asyncio.run, _watch(url, query, page, number, seconds, psutil.Process(pid))).result()


async def _attend(url: str, query: str, number: int, within_s: float, process: psutil.Process) -> Lecture:
    largest, waits_s, visitors = process.memory_info().rss, within_s / max(1, number), [Visitor() for _ in range(number)]

    async def join(place: int, visitor: Visitor) -> float | None:
        await asyncio.sleep(place * waits_s)
        start = time.perf_counter()
        try:
            await visitor.open(url, query)
        except (OSError, TimeoutError, websockets.WebSocketException):
            return None
        if not visitor.sliders:  # what came is no story that somebody could guess about
            return None
        return 1e3 * (time.perf_counter() - start)

    stories = await asyncio.gather(*(join(place, visitor) for place, visitor in enumerate(visitors)))
    largest = max(largest, process.memory_info().rss)
    here = [visitor for visitor, story in zip(visitors, stories, strict=True) if story is not None]
    # a guess that is lost is one that the class does not count in the end
    # never 50, where a slider stands before it is moved: what is not moved is no guess
    guesses = (visitor.move(visitor.sliders[0], place % 50) for place, visitor in enumerate(here))
    await asyncio.gather(*guesses, return_exceptions=True)
    largest = max(largest, process.memory_info().rss)
    teacher = Visitor()
    await teacher.open(url, query)
    guessed = [int(count) for label in teacher.popovers for count in re.findall(r"(\d+) guessed", label)]
    await asyncio.gather(*(visitor.close() for visitor in [*here, teacher]))
    known = [story for story in stories if story is not None]
    return Lecture(known, number - len(known), max(guessed, default=0), largest / 2**20)


def lecture(url: str, query: str, number: int, within_s: float, pid: int) -> Lecture:
    """Let a lecture join evenly within a time, guess once each, and count the guesses.

    Args:
        url: Of the dashboard, under an address that others can open: otherwise no page names the number of guesses.
        query: A state in teacher view, whose answer is stored.
        number: Of visitors.
        within_s: Seconds in which they join.
        pid: Of the dashboard's process.
    """
    with ThreadPoolExecutor(1) as aside:  # a browser's driver has a loop in this thread
        return aside.submit(asyncio.run, _attend(url, query, number, within_s, psutil.Process(pid))).result()
