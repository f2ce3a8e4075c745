"""Bounds on what a request may cost, and on what others notice of it meanwhile."""

import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil

from tests.serve.inference import URL, body
from tests.serve.processes import Running

BASE_S, PER_KB_S = 1.0, 0.020
"""Processor time of a request: so many seconds, and so many more for every kilobyte that was sent."""
MEMORY_BYTES = 64 << 20
"""Memory that a request may add to the front process, at any moment."""
OTHERS_S = 1.0
"""Time within which a health probe and an honest inference are answered meanwhile, on a machine that does nothing else."""
BUSY = 10
"""What a server that is left alone takes is allowed so many times on top. On an idle machine that is a tenth of a second; on
one where a few milliseconds of work take half a second, everything takes a hundred times as long."""
PROBE_PAUSE_S = 0.1


@dataclass
class Cost:
    """What a request took.

    Attributes:
        seconds: Processor time of the front and its workers.
        front_bytes: Highest memory of the front during the request, less what it had before.
    """

    seconds: float = 0.0
    front_bytes: int = 0


class Meter:
    """Measures what happens between `with` and its end, as `cost`.

    Args:
        server: The server.
    """

    def __init__(self, server: Running) -> None:
        self._processes = [psutil.Process(server.process.pid), *server.workers()]
        self._proc = Path("/proc", str(server.process.pid))
        self.cost = Cost()

    def __enter__(self) -> Self:
        (self._proc / "clear_refs").write_text("5", encoding="ascii")  # makes the highest memory that of this moment
        self._before = self._seconds(), self._high()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        seconds, high = self._before
        self.cost = Cost(self._seconds() - seconds, self._high() - high)

    def _seconds(self) -> float:
        times = [process.cpu_times() for process in self._processes]
        return float(sum(each.user + each.system for each in times))

    def _high(self) -> int:
        lines = (self._proc / "status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) << 10

    def check(self, num_bytes: int, what: str) -> None:
        """Fail if the cost is above the bounds for a request of so many bytes."""
        allowed_s = BASE_S + PER_KB_S * num_bytes / 1000
        assert self.cost.seconds <= allowed_s, f"{self.cost.seconds:.2f} s of processor time, {allowed_s:.2f} allowed: {what}"
        assert self.cost.front_bytes <= MEMORY_BYTES, f"{self.cost.front_bytes >> 20} MiB: {what}"


@dataclass
class Others:
    """An honest client and a health probe, which ask all the time; a context manager.

    They ask a second server as well, which is left alone: how long that takes shows how busy the machine is with other things.

    Attributes:
        server: The server.
        control: The server that is left alone.
        slowest: Server and path -> longest time to an answer, in seconds.
        wrong: Answers that were none.
    """

    server: Running
    control: Running
    slowest: dict[tuple[str, str], float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        for server in (self.server, self.control):
            with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as http:
                expected = http.post(URL, content=json.dumps(body())).json()["outputs"]
            asks: dict[str, dict[str, Any]] = {"/v2/health/ready": {}, URL: {"content": json.dumps(body())}}
            for path, words in asks.items():
                self._threads.append(threading.Thread(target=self._ask, args=(server.url, path, words, expected)))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, url: str, path: str, words: dict[str, Any], expected: Any) -> None:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
            while not self._stop.wait(PROBE_PAUSE_S):
                began = time.monotonic()
                try:
                    answer = http.request("POST" if words else "GET", path, **words)
                    good = answer.status_code == 200 and (not words or answer.json()["outputs"] == expected)
                    text = answer.text
                except httpx.HTTPError as reason:
                    good, text = False, repr(reason)
                self.slowest[url, path] = max(self.slowest.get((url, path), 0.0), time.monotonic() - began)
                if not good:
                    self.wrong.append(f"{path}: {text[:200]}")

    def check(self) -> None:
        """Fail if somebody was not answered, answered wrongly, or answered late."""
        assert self.wrong == []
        for path in ("/v2/health/ready", URL):
            here, there = (self.slowest.get((server.url, path), 0.0) for server in (self.server, self.control))
            print(f"{path}: at most {here:.2f} s, {there:.2f} s at a server that was left alone")
            assert here <= OTHERS_S + BUSY * there, f"{path}: {here:.2f} s, {there:.2f} s at a server that was left alone"
