"""Supervision of workers: which processes are ended."""

import asyncio
import sys
import time
from pathlib import Path
from typing import cast

import pytest

from stimcore.serve.limits import Limits
from stimcore.serve.service import Service, ServiceConfig
from stimcore.serve.workers.handle import WorkerHandle


async def check_process(limits: Limits, program: str) -> tuple[int, bool]:
    """Let a pool look at a process that stands for its worker; return the memory that it saw, and whether it ended it."""
    service = Service(ServiceConfig(folder=Path(), devices=("cpu",), limits=limits))
    (worker,) = service.pool.workers
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    worker.process = process
    assert process.stdout is not None
    await process.stdout.readline()
    used_bytes = worker.memory_bytes()
    service.pool._check_alive(worker, time.monotonic(), 1.0)
    try:
        async with asyncio.timeout(1):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        return used_bytes, False
    return used_bytes, True


@pytest.mark.parametrize(("more", "ended"), [(1 << 20, False), (100 << 20, True)])
def test_a_worker_that_takes_too_much_memory_is_ended(more: int, ended: bool) -> None:
    limits = Limits().with_texts(["keep_bytes=1000", "worker_bytes=80000000"])
    program = f"import time; memory = b'x' * {more}; print('ready', flush=True); time.sleep(60)"
    used_bytes, is_ended = asyncio.run(check_process(limits, program))
    assert used_bytes > more
    assert is_ended is ended
    assert WorkerHandle(config=Service(ServiceConfig(folder=Path())).pool.workers[0].config).memory_bytes() == 0


class EndedProcess:
    """Stands for a process of asyncio that has ended by SIGKILL, and whose exit code asyncio has not asked for yet."""

    def __init__(self) -> None:
        self.stdin, self.code = self, -9

    def close(self) -> None:
        """Close its input."""

    def kill(self) -> None:
        """As `Popen.kill`: the exit code is asked for, so that nobody else gets it any more."""
        self.code = 255

    async def wait(self) -> int:
        await asyncio.sleep(0)
        return self.code


@pytest.mark.parametrize("kill", [False, True])
def test_the_exit_code_of_a_worker_that_has_ended_is_its_own(kill: bool) -> None:
    handle = WorkerHandle(config=Service(ServiceConfig(folder=Path())).pool.workers[0].config)
    handle.process = cast(asyncio.subprocess.Process, EndedProcess())
    assert asyncio.run(handle.close(kill=kill)) == -9


def test_a_worker_that_closed_its_output_and_goes_on_is_killed() -> None:
    async def main() -> int | None:
        handle = WorkerHandle(config=Service(ServiceConfig(folder=Path())).pool.workers[0].config)
        program = "import os, time; os.close(1); time.sleep(60)"
        pipe = asyncio.subprocess.PIPE
        handle.process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdin=pipe, stdout=pipe)
        return await handle.close(kill=True)

    assert asyncio.run(main()) == -9
