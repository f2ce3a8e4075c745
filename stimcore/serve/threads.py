"""Functions that block, called in threads that never keep the process from ending."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def in_thread(name: str, function: Callable[[], T]) -> T:
    """Return what a function returns that reads files, called in a thread.

    It is a daemon thread rather than one of `asyncio.to_thread`, which the end of the event loop waits for: hashing many
    gigabytes takes minutes, a network file system may not answer at all, and the process must be able to end meanwhile.

    Args:
        name: Name of the thread.
        function: What is called; what it raises is raised here.
    """
    outcome: Future[T] = Future()

    def call() -> None:
        if not outcome.set_running_or_notify_cancel():
            return
        try:
            outcome.set_result(function())
        except Exception as reason:  # whatever it is, it is raised where the result is awaited
            outcome.set_exception(reason)

    threading.Thread(target=call, name=name, daemon=True).start()
    return await asyncio.wrap_future(outcome)
