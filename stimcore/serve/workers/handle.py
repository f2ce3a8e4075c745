"""A device and the worker process that serves it now: started, spoken to, heard, ended. Who gets what to do: `pool.py`."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stimcore.serve.jobs.job import Job
from stimcore.serve.workers import messages
from stimcore.serve.workers.messages import Call, Hello


@dataclass(eq=False)
class Waiting:
    """A call and whoever waits for its answer. Those of priority 1 go before those of 2."""

    call: Call
    answer: asyncio.Future[Any]
    priority: int
    attempts: int = 0


@dataclass
class WorkerHandle:
    """A device, and the worker process that serves it now.

    Attributes:
        hello: What it said of itself; None while it starts.
        calls: Sent and not answered.
        job: Whose chunk it works on.
        begun: Evaluations that it holds open.
        heard: When it last said something, or was given something to do while it had nothing.
        caches: What its engines kept when it last reported.
        looked_at: Fingerprints of bundles that it was told to get ready.
    """

    device: str
    process: asyncio.subprocess.Process | None = None
    hello: Hello | None = None
    calls: dict[int, Waiting] = field(default_factory=dict)
    job: Job | None = None
    begun: set[Job] = field(default_factory=set)
    heard: float = 0.0
    failures: int = 0
    caches: Mapping[str, float] = field(default_factory=dict)
    looked_at: set[str] = field(default_factory=set)

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do."""
        return not self.calls and self.job is None

    def send(self, message: object, now: float) -> None:
        """Queues a message on its pipe."""
        assert self.process is not None and self.process.stdin is not None
        if self.idle:
            self.heard = now
        self.process.stdin.write(messages.pack(message))

    async def run(self, words: Sequence[str], now: float) -> AsyncGenerator[Any, None]:
        """Starts a worker and gives what it says, until its output closes.

        Args:
            words: Of its command line.
            now: Seconds.
        """
        self.heard = now
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "stimcore.serve.workers.process",
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=16 << 20,
        )
        assert self.process.stdout is not None
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await self.process.stdout.readexactly(messages.HEAD.size)
                body = await self.process.stdout.readexactly(messages.HEAD.unpack(head)[0])
                yield messages.unpack(body)

    async def leave(self, *, kill: bool) -> int | None:
        """Ends the worker, if there is one: closes its input, and kills it when it does not go, or at once.

        Returns:
            Its exit code; None when there was none.
        """
        process, self.process, self.hello = self.process, None, None
        self.looked_at.clear()
        if process is None:
            return None
        assert process.stdin is not None
        process.stdin.close()
        if kill:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        try:
            async with asyncio.timeout(2):
                return await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            return await process.wait()
