"""The program of a worker process: it reads messages of the front, answers calls and advances jobs.

Started by `handle.py` as `python -m stimcore.serve.workers.process CONFIG`. Messages come on standard input and go to standard
output. When the input closes, the process ends: that is how the front ends a worker, and what happens when the front dies.

Three kinds of threads share the work:

- the main thread only reads messages, so that a `Drop` is noticed while networks run;
- `calls` (one thread per core, one on a GPU) answers calls;
- `steps` (one thread) advances jobs, one report at a time, in the order of the messages.

Calls go first: between two graphs a job waits for running calls, but never for longer than `PATIENCE_S`, so that a stream of
calls slows a job down and does not stop it.
"""

import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from typing import BinaryIO

import numpy as np
import onnxruntime as ort

from stimcore.analysis.result import Result
from stimcore.engine.cuda import is_memory_full
from stimcore.engine.inference import Progress
from stimcore.engine.provider import pick
from stimcore.errors import StimcoreError, Unavailable
from stimcore.serve import logs
from stimcore.serve.errors import Late
from stimcore.serve.logs import TRACEPARENT
from stimcore.serve.repository.models import BundleRef
from stimcore.serve.workers import messages
from stimcore.serve.workers.calls import answer_call
from stimcore.serve.workers.config import WorkerConfig
from stimcore.serve.workers.engines import EngineCache
from stimcore.serve.workers.messages import (
    Abandon,
    Advance,
    Answer,
    Begin,
    Call,
    CallFailure,
    Drop,
    Hello,
    JobFailure,
    Ping,
    Pong,
    Report,
    StartFailure,
    Warmup,
    WarmupDone,
)

log = logging.getLogger("stimcore.serve")
BROKEN = 70
"""Exit code after an error of a GPU: within a process, a CUDA context does not recover from it."""
DEVICE_ERRORS = (
    "an illegal memory access",
    "an illegal instruction",
    "device-side assert",
    "unspecified launch failure",
    "misaligned address",
    "CUDA_ERROR_",
    "CUDA error",
    "CUBLAS failure",
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUDNN_STATUS_EXECUTION_FAILED",
    "ECC error",
    "GPU is lost",
)
"""What errors of a GPU say after which its context is useless. Full memory is not among them."""
FULL_CPU_MEMORY = ("bad_alloc", "bad allocation")
"""What errors of onnxruntime say when main memory is full, besides those that it says of a GPU's."""
PATIENCE_S = 0.25
"""Longest time for which a job waits for running calls between two graphs."""


@dataclass
class OpenJob:
    """A job that was begun.

    Attributes:
        begin: Its description.
        reports: The engine's reports; None before the first `Advance`.
    """

    begin: Begin
    reports: Iterator[Progress] | None = None


class Worker:
    """Answers the messages of the front.

    Args:
        out: Where messages to the front go.
        config: What the worker may use.

    Raises:
        UsageError: The device can't be used.
    """

    def __init__(self, out: BinaryIO, config: WorkerConfig) -> None:
        self._config = config
        self._provider = pick(config.device)
        self._engines = EngineCache(config)
        self._out, self._out_lock = out, threading.Lock()
        self._calls = ThreadPoolExecutor(1 if self._provider.on_gpu else config.threads, "calls")
        self._steps = ThreadPoolExecutor(1, "steps")
        self._counts = threading.Condition()  # guards the next four, and is notified when a call has ended
        self._running_calls = 0
        self._open_calls: set[int] = set()
        self._abandoned: set[int] = set()
        self._waiting_steps = 0
        self._dropped: set[int] = set()
        # these belong to the `steps` thread alone
        self._jobs: dict[int, OpenJob] = {}
        self._postponed: list[BundleRef] = []

    def run(self, stream: BinaryIO) -> None:
        """Handle messages until the front closes its end; then end the process, also in the middle of a computation."""
        self._send(self._hello())
        while head := stream.read(messages.HEAD.size):
            self._receive(messages.unpack(stream.read(messages.HEAD.unpack(head)[0])))
        os._exit(0)  # a regular exit would wait for the threads

    def _hello(self) -> Hello:
        versions = {
            "python": sys.version.split()[0],
            "onnxruntime": ort.__version__,
            "numpy": np.__version__,
            "onnx": version("onnx"),
        }
        if self._config.url is not None:
            return Hello(f"triton {self._config.url}", "networks run on another server", versions)
        return Hello(self._provider.name, self._provider.reason or "", versions, degraded=self._provider.degraded)

    def _receive(self, message: object) -> None:
        """Hand a message to the thread that handles it."""
        match message:
            case Drop():
                # noted here, where the running step sees it, and queued, so that the job is closed after that step
                self._dropped.add(message.id)
                self._steps.submit(self._close_job, message.id)
            case Ping():
                self._send(Pong())
            case Call():
                with self._counts:
                    self._running_calls += 1
                    self._open_calls.add(message.id)
                self._calls.submit(self._call, message)
            case Abandon():
                with self._counts:
                    if message.id in self._open_calls:  # else it was answered meanwhile
                        self._abandoned.add(message.id)
            case Warmup():
                self._steps.submit(self._warm_up, message.bundle)
            case Begin() | Advance():
                with self._counts:
                    self._waiting_steps += 1
                self._steps.submit(self._step, message)
            case _:
                raise AssertionError(message)

    def _send(self, message: object) -> None:
        parts = messages.pack(message)
        with self._out_lock:
            self._out.writelines(parts)
            self._out.flush()

    def _call(self, call: Call) -> None:
        """Answer a call, in a `calls` thread."""
        TRACEPARENT.set(call.traceparent)

        def check_wanted() -> None:
            if call.id in self._abandoned:
                raise Late("nobody waits for this call any more")

        try:
            check_wanted()
            self._send(Answer(call.id, answer_call(call, self._engines, self._provider, check_wanted)))
        except StimcoreError as reason:
            self._send(CallFailure(call.id, reason))
        except Exception as reason:  # onnxruntime raises many types, and no call may end the worker
            self._send(CallFailure(call.id, _unexpected("call failed", reason)))
            self._end_if_broken(reason)
        finally:
            with self._counts:
                self._running_calls -= 1
                self._open_calls.discard(call.id)
                self._abandoned.discard(call.id)
                self._counts.notify_all()

    def _end_if_broken(self, reason: Exception) -> None:
        """End the process after an error of a GPU; the front starts a new one."""
        if self._provider.on_gpu and is_device_error(reason):
            os._exit(BROKEN)

    def _step(self, message: Begin | Advance) -> None:
        """Begin or advance a job, in the `steps` thread."""
        with self._counts:
            self._waiting_steps -= 1
        if isinstance(message, Begin):
            self._jobs[message.id] = OpenJob(message)
            return
        try:
            report = Report(message.id, self._advance(message.id), self._engines.metrics())
        except StimcoreError as reason:
            self._close_job(message.id)
            self._send(JobFailure(message.id, reason))
        except Exception as reason:  # see `_call`
            self._close_job(message.id)
            self._send(JobFailure(message.id, _unexpected("job failed", reason)))
            self._end_if_broken(reason)
        else:
            if report.finished:
                self._close_job(message.id)
            self._send(report)

    def _advance(self, number: int) -> Progress | None:
        """Return the next report of a job; None when it was dropped."""
        job = self._jobs.get(number)
        if job is None or number in self._dropped:
            return None
        if job.reports is None:
            job.reports = self._evaluate(job.begin)
        progress = next(job.reports, None)
        if progress is not None:
            _check_finite(progress.results.values())
        return progress

    def _evaluate(self, begin: Begin) -> Iterator[Progress]:
        """Open the bundle and return the reports of a job, which is computed as they are read."""

        def should_stop() -> bool:
            self._wait_for_calls()
            return begin.id in self._dropped

        return self._engines.open(begin.bundle).evaluate(
            begin.specs,
            recalibrate=begin.recalibrate,
            chunk_images=begin.chunk_images,
            should_stop=should_stop,
            max_images=begin.max_images,
        )

    def _close_job(self, number: int) -> None:
        self._jobs.pop(number, None)
        self._dropped.discard(number)
        while self._postponed and not self._jobs:
            self._steps.submit(self._warm_up, self._postponed.pop())

    def _warm_up(self, ref: BundleRef) -> None:
        """Open a bundle ahead of its first edit, in the `steps` thread.

        Only while no job is open or waits, and only when no other bundle has to be closed for it. As soon as something else
        is to be done, the warm-up stops where it is; whatever it has cached by then is kept.
        """
        if self._jobs or self._waiting_steps:
            self._postponed.append(ref)
            return
        if self._config.url is not None or not self._engines.fits(ref):
            return

        def should_stop() -> bool:
            if self._waiting_steps == 0:
                self._wait_for_calls()
            return self._waiting_steps > 0

        try:
            self._engines.open(ref).warm_up(should_stop)
            self._send(WarmupDone(self._engines.metrics()))
        except Exception:  # nobody waits for a warm-up; the first request for this bundle gets the error
            log.exception("warm-up failed")

    def _wait_for_calls(self) -> None:
        """Wait until no call runs, but at most `PATIENCE_S`; the engine calls this between two graphs."""
        with self._counts:
            self._counts.wait_for(lambda: not self._running_calls, PATIENCE_S)


def is_device_error(reason: Exception) -> bool:
    """Return whether an error leaves the GPU useless for this process.

    Any other error concerns one request: a graph that can't be built, full memory, a defect. Ending the worker for it would
    let one client take the server from everybody.

    Example:
        >>> is_device_error(RuntimeError("CUDA failure 700: an illegal memory access was encountered"))
        True
        >>> is_device_error(RuntimeError("CUDA failure 2: out of memory")), is_device_error(IndexError("list index"))
        (False, False)
    """
    text = str(reason)
    return any(words in text for words in DEVICE_ERRORS) and not is_memory_full(reason)


def _unexpected(event: str, reason: Exception) -> StimcoreError:
    """Log an error that is not one of ours, and return what clients get instead of it."""
    traceparent = TRACEPARENT.get()
    log.error(event, exc_info=reason, extra={"fields": {"traceparent": traceparent} if traceparent else {}})
    full = is_memory_full(reason) or any(words in str(reason) for words in FULL_CPU_MEMORY)
    if isinstance(reason, MemoryError) or full:
        return Unavailable("the worker has not enough memory for this", todo="Ask for fewer images or sub-networks at once.")
    return StimcoreError(f"the network could not be run ({type(reason).__name__})")


def _check_finite(results: Iterable[Result]) -> None:
    """Refuse results that JSON can't express: a network with infinite or undefined logits has them.

    Raises:
        StimcoreError: A loss of a sub-network is not finite.
    """
    for result in results:
        losses = (result.ce_nats, result.kl_nats, result.max_ce_nats)
        if not all(loss is None or math.isfinite(loss) for loss in losses):
            raise StimcoreError(f"the logits of {result.spec} are not finite")


def main(arguments: Sequence[str]) -> None:
    """Run a worker; never returns."""
    # the front decides when this process ends, also after Ctrl-C, which the terminal sends to the whole group
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logs.configure("info")
    config = WorkerConfig.from_json(arguments[0])
    if hasattr(os, "nice"):  # on Windows the front starts workers with a lower priority
        os.nice(config.niceness)
    # Messages go to a copy of standard output; what a library prints there goes to standard error instead, so that it can't get
    # between them.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        worker = Worker(out, config)
    except StimcoreError as reason:
        out.writelines(messages.pack(StartFailure(reason)))
        out.flush()
        sys.exit(reason.exit_code)
    worker.run(sys.stdin.buffer)


if __name__ == "__main__":
    main(sys.argv[1:])
