"""Supervision of workers: which processes are ended."""

import asyncio
import sys
import time
from pathlib import Path

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
