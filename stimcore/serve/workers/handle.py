"""One worker process as the front sees it: the pipe to it, and what it is working on. `dispatcher.py` decides on its work."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stimcore.serve.jobs.job import Job
from stimcore.serve.workers import messages
from stimcore.serve.workers.config import WorkerConfig
from stimcore.serve.workers.messages import Call, Hello

PIPE_BYTES = 16 << 20
"""Bytes that are buffered from a worker before reading pauses; a report of 5,832 results has one megabyte."""
LOW_PRIORITY = getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0)
"""How Windows starts a worker; elsewhere a worker lowers its own priority (`WorkerConfig.niceness`)."""
EXIT_S = 2.0
"""Time for a worker to end by itself before it is killed."""
DYING_S = 0.5
"""The same for one whose output has closed: it has ended, or is about to."""


@dataclass(eq=False)
class PendingCall:
    """A call without an answer yet.

    Attributes:
        call: The message.
        answer: Where its answer goes.
        priority: Calls of priority 1 go before those of priority 2.
        attempts: Workers that ended while they had it.
        abandoned_at: When nobody waited for it any more, in seconds of the monotonic clock; None while somebody does.
    """

    call: Call
    answer: asyncio.Future[Any]
    priority: int
    attempts: int = 0
    abandoned_at: float | None = None


@dataclass(eq=False)
class WorkerHandle:
    """A place for one worker process. The process is replaced when it ends; the handle stays.

    Attributes:
        config: What the worker may use.
        process: The process; None between two of them.
        hello: Its first message; None until it takes work.
        calls: Calls that it has and did not answer yet, by number.
        job: The job that it computes the next report of.
        open_jobs: Jobs that it has begun and not ended: their statistics and counts live in its memory.
        last_message_at: When it last sent a message, or last got work while it was idle, in seconds of the monotonic clock.
        failures: Processes of this handle in a row that ended without answering anything.
        caches: What its engines kept when it last reported; see `messages.Report`.
        unanswered_s: Time for which it has not answered a `Ping`; 0 when it has answered the last one.
        ended_for_lateness: Whether its process was killed because of a call that nobody waits for.
        warmed_up: Fingerprints of bundles for which it got a `Warmup`.
    """

    config: WorkerConfig
    process: asyncio.subprocess.Process | None = None
    hello: Hello | None = None
    calls: dict[int, PendingCall] = field(default_factory=dict)
    job: Job | None = None
    open_jobs: set[Job] = field(default_factory=set)
    last_message_at: float = 0.0
    failures: int = 0
    caches: Mapping[str, float] = field(default_factory=dict)
    unanswered_s: float = 0.0
    ended_for_lateness: bool = False
    warmed_up: set[str] = field(default_factory=set)

    @property
    def idle(self) -> bool:
        """Whether it has neither calls nor a job."""
        return not self.calls and self.job is None

    def send(self, message: object, now: float) -> None:
        """Queue a message on the worker's pipe; the worker must be running.

        Silence counts from here when the worker was idle: an idle worker has nothing to send, for hours if need be.
        """
        assert self.process is not None
        assert self.process.stdin is not None
        if self.idle:
            self.last_message_at = now
        for part in messages.pack(message):
            self.process.stdin.write(part)

    async def run(self, now: float) -> AsyncGenerator[Any, None]:
        """Start a process and yield its messages until its output closes, which it does however the process ends."""
        self.last_message_at, self.unanswered_s, self.ended_for_lateness = now, 0.0, False
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "stimcore.serve.workers.process",
            self.config.to_json(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=PIPE_BYTES,
            creationflags=LOW_PRIORITY,
        )
        assert self.process.stdout is not None
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await self.process.stdout.readexactly(messages.HEAD.size)
                body = await self.process.stdout.readexactly(messages.HEAD.unpack(head)[0])
                yield messages.unpack(body)

    def kill(self) -> None:
        """Kill the process, if there is one. Its output closes, and thereby `run` ends."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    def memory_bytes(self) -> int:
        """Return the memory that the process takes; 0 where the system does not show it."""
        if self.process is None:
            return 0
        try:
            pages = Path("/proc", str(self.process.pid), "statm").read_text(encoding="ascii").split()[1]
        except (OSError, IndexError):  # another system than Linux, or a process that has just ended
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    async def close(self, *, kill: bool) -> int | None:
        """End the process, if there is one, and wait until it is gone.

        Args:
            kill: Kill it when it does not end within `DYING_S` after its input closed, instead of `EXIT_S`.

        Returns:
            The exit code, negative for a signal; None when there was no process.
        """
        process, self.process, self.hello = self.process, None, None
        self.warmed_up.clear()
        if process is None:
            return None
        assert process.stdin is not None
        process.stdin.close()
        # Not killed before its end was waited for: to kill a process that has ended takes its exit code away from asyncio,
        # which then reports 255 and complains about an unknown child.
        try:
            async with asyncio.timeout(DYING_S if kill else EXIT_S):
                return await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            return await process.wait()
