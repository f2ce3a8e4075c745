"""The worker process: holds engines, answers calls, advances evaluations. The only room of the server that imports the runtime.

Started by `pool.py` as `python -m stimcore.serve.workers.process`; talks over its standard input and output; ends when its input does.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnxruntime as ort

from stimcore.bundle import Experiment, open_bundle
from stimcore.engine.engine import Engine
from stimcore.engine.inference import Budget, InferenceEngine, Progress
from stimcore.engine.provider import pick
from stimcore.errors import BundleError, StimcoreError, UsageError
from stimcore.serve import pictures
from stimcore.serve.workers import messages
from stimcore.serve.workers.messages import (
    Advance,
    Answer,
    Begin,
    Call,
    Classify,
    Drop,
    Forget,
    Warmup,
    WarmupDone,
    Hello,
    Infer,
    Refused,
    Report,
    BundleRef,
    Standalone,
)
from stimcore.subnets.topology import Spec

BROKEN = 70
"""Exit code after an error that a GPU does not recover from within a process."""
NOBODY = 0
"""The number of no evaluation."""
UNIT_STEPS = 4
"""Parts in one graph. An evaluation that nobody wants any more ends with the graph that runs; whoever is next waits for it."""
PATIENCE_S = 0.25
"""Longest wait of a step of an evaluation for calls that run: calls go first, but never for ever."""


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What a worker may use.

    Attributes:
        device: `auto`, `cpu`, `cuda:N`.
        threads: That compute at once, on a CPU.
        engines: Bundles that are kept open.
        keep_bytes: For statistics, activations and sessions of all of them.
        url: Of the inference server that runs networks instead of this process; None for none.
    """

    device: str
    threads: int
    engines: int
    keep_bytes: int
    url: str | None

    def budget(self, engines: int) -> Budget:
        """Of each of so many engines."""
        share = self.keep_bytes // engines
        return Budget(
            working=256 << 20,
            statistics=share // 8,
            calibration=share // 6,
            evaluation=share // 4,
            sessions=3 * share // 8,
            unit_steps=UNIT_STEPS,
        )


@dataclass
class Evaluation:
    """An evaluation that was begun."""

    begin: Begin
    reports: Iterator[Progress] | None = None


class Worker:
    """Answers the front's messages: evaluations one step after the other, calls beside and before them.

    Args:
        out: To the front.
        means: What may be used.

    Raises:
        UsageError: The device can't be used.
    """

    def __init__(self, out: BinaryIO, means: WorkerConfig) -> None:
        self.means = means
        self._provider = pick(means.device)
        self._out, self._saying, self._opening = out, threading.Lock(), threading.Lock()
        self._engines: OrderedDict[str, InferenceEngine] = OrderedDict()
        self._experiments: dict[str, Experiment] = {}
        self._evaluations: dict[int, Evaluation] = {}
        self._dropped: set[int] = set()
        self._calls = ThreadPoolExecutor(1 if self._provider.on_gpu else means.threads, "calls")
        self._steps = ThreadPoolExecutor(1, "steps")
        self._counting = threading.Condition()
        self._running_calls = 0
        self._waiting_steps = 0
        self._later: list[BundleRef] = []

    def run(self, stream: BinaryIO) -> None:
        """Until the front closes its end; then this process is gone, also in the middle of a computation."""
        versions = {
            "python": sys.version.split()[0],
            "onnxruntime": ort.__version__,
            "numpy": np.__version__,
            "onnx": version("onnx"),
        }
        if self.means.url is None:
            self._say(Hello(self._provider.name, self._provider.reason or "", versions))
        else:
            self._say(Hello(f"triton {self.means.url}", "networks run on another server", versions))
        while head := stream.read(messages.HEAD.size):
            message = messages.unpack(stream.read(messages.HEAD.unpack(head)[0]))
            if isinstance(message, Drop):
                self._dropped.add(message.id)
                self._steps.submit(self._end, message.id)
            elif isinstance(message, Call):
                with self._counting:
                    self._running_calls += 1
                self._calls.submit(self._call, message)
            elif isinstance(message, Warmup):
                self._steps.submit(self._get_ready, message.source)
            else:
                with self._counting:
                    self._waiting_steps += 1
                self._steps.submit(self._step, message)
        os._exit(0)

    def _say(self, message: object) -> None:
        text = messages.pack(message)
        with self._saying:
            self._out.write(text)
            self._out.flush()

    def _call(self, call: Call) -> None:
        try:
            self._say(Answer(call.id, self._answer(call)))
        except StimcoreError as reason:
            self._say(Refused(call.id, reason))
        except Exception as reason:  # a worker outlives whatever onnxruntime throws at it
            self._unexpected(call.id, reason)
        finally:
            with self._counting:
                self._running_calls -= 1
                self._counting.notify_all()

    def _unexpected(self, number: int, reason: Exception) -> None:
        traceback.print_exc()
        self._say(Refused(number, StimcoreError(f"the network could not be run ({type(reason).__name__})")))
        if self._provider.on_gpu:
            os._exit(BROKEN)

    def _answer(self, call: Call) -> object:
        match call:
            case Infer():
                engine = self._engine(call.source)
                images = np.frombuffer(call.data, np.float32).reshape(call.shape)
                spec = engine.bundle.topology.parse(call.spec)
                started = time.perf_counter_ns()
                logits = engine.logits(spec, images, recalibrate=call.recalibrate).astype(np.float32, copy=False)
                return logits.tobytes(), time.perf_counter_ns() - started
            case Classify():
                return self._classify(call)
            case Standalone():
                return self._standalone(call)
            case Forget():
                self._forget(call.source.fingerprint)
                return None
            case _:
                raise AssertionError(call)

    def _classify(self, call: Classify) -> tuple[bytes, list[tuple[str, list[float]]]]:
        engine = self._engine(call.source)
        experiment = engine.bundle.experiment
        if call.image is not None:
            channels, height, width = experiment.image_shape
            pixels = pictures.pixels_of(call.image, (channels, height, width), call.max_pixels)
        else:
            images, _ = experiment.evaluation
            if call.index is None or not 0 <= call.index < len(images):
                raise UsageError(f"there is no evaluation image {call.index}", allowed=f"0 to {len(images) - 1}")
            pixels = images[call.index]
        found = []
        for text in call.specs:
            spec = engine.bundle.topology.parse(text)
            logits = engine.logits(spec, experiment.normalise(pixels[None]))[0].astype(np.float64)
            shares = np.exp(logits - logits.max())
            found.append((str(spec), [float(p) for p in shares / shares.sum()]))
        return pictures.png(pixels), found

    def _standalone(self, call: Standalone) -> bytes:
        """Handed out only when a fresh session of the file says what the engine says."""
        engine = self._engine(call.source)
        spec = engine.bundle.topology.parse(call.spec)
        model = engine.standalone(spec)
        images = engine.bundle.experiment.normalise(engine.bundle.experiment.evaluation[0][:32])
        expected = engine.logits(spec, images)
        found = self._provider.session(model, 1).run({"images": self._provider.value(images)})[0].numpy()
        if not np.allclose(found, expected, rtol=0, atol=1e-4 * max(1.0, float(np.abs(expected).max()))):
            raise BundleError(f"the stand-alone network {spec} does not say what the bundle says")
        return model

    def _engine(self, source: BundleRef) -> InferenceEngine:
        """The engine of a bundle, which is opened, hash by hash, when it isn't kept."""
        with self._opening:
            engine = self._engines.get(source.fingerprint)
            if engine is None:
                opened = self._opened(source)  # may fail, and then nothing has changed
                while len(self._engines) >= self.means.engines:
                    self._engines.popitem(last=False)
                engine = self._engines[source.fingerprint] = opened
                self._share()
            self._engines.move_to_end(source.fingerprint)
            return engine

    def _forget(self, fingerprint: str) -> None:
        with self._opening:
            self._engines.pop(fingerprint, None)
            self._share()

    def _share(self) -> None:
        """Gives every engine that is open the same part of what may be kept."""
        for engine in self._engines.values():
            engine.resize_caches(self.means.budget(len(self._engines)))

    def _opened(self, source: BundleRef) -> InferenceEngine:
        bundle = open_bundle(Path(source.path))
        if bundle.fingerprint != source.fingerprint:
            raise BundleError(f"{source.path} was exported anew", todo="Let the server look again (rescan).")
        experiment = bundle.experiment
        key = json.dumps([str(experiment.path), dict(experiment.hashes), experiment.mean, experiment.std])
        bundle = replace(bundle, experiment=self._experiments.setdefault(key, experiment))  # images are held once for all

        def local() -> Engine:
            smallest = self.means.budget(self.means.engines)
            return Engine(bundle, device=self.means.device, threads=self.means.threads, budget=smallest)

        if self.means.url is None:
            return local()
        from stimcore.serve.workers.remote_engine import (
            RemoteEngine,  # with its HTTP, a worker would take twice as long to start
        )

        return RemoteEngine(bundle, self.means.url, local, os.environ.get("STIMCORE_ENGINE_TOKEN") or None)

    def _get_ready(self, source: BundleRef) -> None:
        """While nobody waits for numbers, and only where no other bundle has to be closed for it."""
        if self._evaluations or self._waiting_steps:
            self._later.append(source)
            return
        room = source.fingerprint in self._engines or len(self._engines) < self.means.engines
        if self.means.url is not None or not room:
            return
        try:
            engine = self._engine(source)
            engine.warm_up(lambda: self._waiting_steps > 0 or self._between_steps(NOBODY))
            self._say(WarmupDone(self._caches()))
        except Exception:  # whoever edits first is told what is wrong
            traceback.print_exc()

    def _step(self, step: Begin | Advance) -> None:
        with self._counting:
            self._waiting_steps -= 1
        if isinstance(step, Begin):
            self._evaluations[step.id] = Evaluation(step)
            return
        evaluation = self._evaluations.get(step.id)
        try:
            report = STOPPED if evaluation is None else self._advance(evaluation)
        except StimcoreError as reason:
            self._end(step.id)
            self._say(Refused(step.id, reason))
        except Exception as reason:
            self._end(step.id)
            self._unexpected(step.id, reason)
        else:
            if report.finished:
                self._end(step.id)
            self._say(replace(report, id=step.id))

    def _end(self, number: int) -> None:
        self._evaluations.pop(number, None)
        self._dropped.discard(number)
        while self._later and not self._evaluations:
            self._steps.submit(self._get_ready, self._later.pop())

    def _advance(self, evaluation: Evaluation) -> Report:
        begin = evaluation.begin
        if evaluation.reports is None:
            engine = self._engine(begin.source)
            evaluation.reports = engine.evaluate(
                [engine.bundle.topology.parse(text) for text in begin.specs],
                recalibrate=begin.recalibrate,
                chunk_images=begin.chunk_images,
                should_stop=lambda: self._between_steps(begin.id),
                max_images=begin.max_images,
            )
        progress = None if begin.id in self._dropped else next(evaluation.reports, None)
        if progress is None:
            return STOPPED
        results = {str(spec): _text(progress, spec) for spec in progress.results}
        caches = self._caches()
        return Report(begin.id, progress.phase, progress.images, progress.images_total, results, progress.done, caches)

    def _caches(self) -> dict[str, float]:
        found: Counter[str] = Counter()
        with self._opening:
            for engine in self._engines.values():
                found.update(engine.metrics())
        return dict(found)

    def _between_steps(self, number: int) -> bool:
        """Lets calls go first; True when the evaluation was dropped. Called from the engine's threads."""
        with self._counting:
            self._counting.wait_for(lambda: not self._running_calls, PATIENCE_S)
        return number in self._dropped


def _text(progress: Progress, spec: Spec) -> bytes:
    return json.dumps(progress.results[spec].to_dict(), allow_nan=False).encode()


STOPPED = Report(0, "stopped", 0, 0, {}, True)
YIELDING = 10
"""How nice a worker is: on a processor that networks fill, the front and a dashboard beside it still answer at once."""


def main(argv: Sequence[str]) -> None:
    """Starts; returns never."""
    line = argparse.ArgumentParser(prog="python -m stimcore.serve.workers.process")
    line.add_argument("--device", required=True)
    line.add_argument("--threads", type=int, required=True)
    line.add_argument("--engines", type=int, required=True)
    line.add_argument("--keep-bytes", type=int, required=True)
    line.add_argument("--url")
    options = line.parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the front decides when this process ends: it closes our input
    os.nice(YIELDING)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between our messages
    try:
        worker = Worker(out, WorkerConfig(**vars(options)))
    except StimcoreError as reason:
        out.write(messages.pack(Refused(0, reason)))
        out.flush()
        sys.exit(reason.exit_code)
    worker.run(sys.stdin.buffer)


if __name__ == "__main__":
    main(sys.argv[1:])
