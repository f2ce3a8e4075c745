"""A worker process: which errors end it, and what it does with a call that nobody waits for."""

import contextlib
import io
import json
import logging
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

import numpy as np
import pytest

from stimcore.bundle import open_bundle
from stimcore.engine import calibrator
from stimcore.engine.calibrator import Calibrator
from stimcore.engine.engine import SPECS_TOGETHER, Engine
from stimcore.engine.executor import execute
from stimcore.engine.provider import pick
from stimcore.errors import SpecError
from stimcore.serve.errors import Late
from stimcore.serve.logs import JsonFormatter
from stimcore.serve.repository.models import BundleRef
from stimcore.serve.workers import messages, process
from stimcore.serve.workers.calls import answer_call
from stimcore.serve.workers.config import WorkerConfig
from stimcore.serve.workers.engines import EngineCache
from stimcore.serve.workers.messages import (
    Abandon,
    Advance,
    Answer,
    Begin,
    CallFailure,
    Classify,
    Forget,
    Hello,
    Ping,
    Pong,
    Warmup,
)
from stimcore.serve.workers.process import BROKEN, Worker, is_device_error
from stimcore.subnets.families import ordered
from stimcore.subnets.spec import Spec

TextStream = TypeVar("TextStream", bound=TextIO)
REF = BundleRef("/nowhere", "0")
CONFIG = WorkerConfig(device="cpu", threads=1, engines=1, keep_bytes=1 << 20)


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", True),
        ("CUDA error cudaErrorLaunchFailure: unspecified launch failure", True),
        ("CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED ; GPU=0", True),
        ("CUDA failure 2: out of memory ; GPU=0", False),
        ("CUBLAS failure 3: out of memory", False),
        ("Failed to allocate memory for requested buffer of size 1073741824", False),
        ("[ONNXRuntimeError] : 10 : INVALID_GRAPH : This is an invalid model", False),
        ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: images", False),
        ("required argument is not an integer", False),
        ("", False),
    ],
)
def test_only_errors_of_the_device_end_a_worker(text: str, ends: bool) -> None:
    assert is_device_error(RuntimeError(text)) is ends


def received(out: io.BytesIO) -> list[Any]:
    """Return the messages that a worker has sent."""
    data, received = out.getvalue(), []
    while data:
        (size,) = messages.HEAD.unpack(data[: messages.HEAD.size])
        received.append(messages.unpack(data[messages.HEAD.size : messages.HEAD.size + size]))
        data = data[messages.HEAD.size + size :]
    return received


class Ended(BaseException):
    """Takes the place of the end of the process."""


def work(monkeypatch: pytest.MonkeyPatch, *given: object, error: Exception | None = None, on_gpu: bool = False) -> list[Any]:
    """Let a worker handle messages; return what it sends, and the exit code in the end."""
    out = io.BytesIO()
    worker = Worker(out, CONFIG)
    if on_gpu:
        provider = worker._provider
        monkeypatch.setattr(
            worker, "_provider", type("OnGpu", (), {"on_gpu": True, "name": provider.name, "reason": None, "degraded": False})()
        )
    if error is not None:

        def fail(*_: object) -> object:
            raise error

        monkeypatch.setattr(process, "answer_call", fail)
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        raise Ended

    monkeypatch.setattr(os, "_exit", end)
    stream = io.BytesIO(b"".join(part for message in given for part in messages.pack(message)))
    try:
        worker.run(stream)
    except Ended:
        worker._calls.shutdown(wait=True)
        worker._steps.shutdown(wait=True)
    return [message for message in received(out) if not isinstance(message, Hello)] + [max(codes)]


@contextlib.contextmanager
def logged_to(stream: TextStream) -> Iterator[TextStream]:
    """Write the log of a worker to a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    log = logging.getLogger("stimcore.serve")
    log.addHandler(handler)
    try:
        yield stream
    finally:
        log.removeHandler(handler)


@pytest.mark.parametrize(
    "text", ["CUDA failure 700: an illegal memory access was encountered", "required argument is not an integer"]
)
@pytest.mark.parametrize("on_gpu", [True, False])
def test_an_unexpected_error_is_a_refusal_and_ends_a_worker_on_a_broken_gpu_only(
    monkeypatch: pytest.MonkeyPatch, text: str, on_gpu: bool
) -> None:
    failure, code = work(monkeypatch, Forget(7, REF), error=RuntimeError(text), on_gpu=on_gpu)
    assert isinstance(failure, CallFailure)
    assert str(failure.error) == "the network could not be run (RuntimeError)."
    assert code == (BROKEN if on_gpu and "CUDA" in text else 0)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc"),
        RuntimeError("CUDA failure 2: out of memory ; GPU=0"),
        RuntimeError("Failed to allocate memory for requested buffer of size 1073741824"),
    ],
)
def test_full_memory_is_a_sentence_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    failure, code = work(monkeypatch, Forget(7, REF), error=error, on_gpu=True)
    assert isinstance(failure, CallFailure)
    assert failure.error.code == "unavailable"
    assert "not enough memory for this. Ask for fewer images" in str(failure.error)
    assert code == 0


def test_an_error_is_answered_also_when_it_cant_be_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log may lie on a disk that is full, which /dev/full always is."""
    with Path("/dev/full").open("w", buffering=1, encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stderr", full)
        with logged_to(full):
            failure, _ = work(monkeypatch, Forget(7, REF), error=RuntimeError("anything"))
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()
    assert str(failure.error) == "the network could not be run (RuntimeError)."


def test_unexpected_errors_are_lines_of_the_log_with_their_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Any:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(EngineCache, "open", fail)
    monkeypatch.setattr(EngineCache, "fits", lambda *_: True)
    spec = Spec(((1,), (2,)))
    begin, warmup = Begin(3, REF, (spec,), True, None, 100), Warmup(REF)
    for given, event, more in (
        ((Forget(1, REF, traceparent="00-trace"),), "call failed", {"traceparent": "00-trace"}),
        ((Forget(2, REF),), "call failed", {}),
        ((begin, Advance(3)), "job failed", {}),
        ((warmup,), "warm-up failed", {}),
    ):
        with logged_to(io.StringIO()) as log:
            work(monkeypatch, *given, error=RuntimeError("two\nlines"))
        (line,) = [json.loads(text) for text in log.getvalue().splitlines()]
        assert line["traceback"].endswith("RuntimeError: two\nlines")
        assert {key: line[key] for key in line if key not in ("time", "traceback")} == {
            "level": "error",
            "event": event,
            **more,
        }


def test_refusals_end_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    failure, code = work(monkeypatch, Forget(7, REF), error=SpecError("no such block"), on_gpu=True)
    assert isinstance(failure, CallFailure)
    assert code == 0


def test_a_question_whether_it_lives_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert work(monkeypatch, Ping(), Forget(1, REF))[0] == Pong()


def test_what_was_abandoned_before_it_began_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, _ = work(monkeypatch, Forget(1, REF), Abandon(3), Forget(2, REF))
    assert {type(first), type(second)} == {Answer}, "an unknown number is no reason to do less"


class CountingEngine:
    """Stands for the engine of a bundle, and counts what is run."""

    def __init__(self, engine: Any) -> None:
        self.bundle, self.runs = engine.bundle, 0

    def prepare(self, *_: object) -> None:
        """Do nothing."""

    def logits(self, *_: object, **__: object) -> Any:
        self.runs += 1
        return np.zeros((1, 5), np.float32)


def cache_of(engine: object) -> EngineCache:
    """Stands for a cache that holds one engine."""
    return cast(EngineCache, type("Cache", (), {"open": lambda *_: engine})())


def test_a_classification_ends_between_two_networks(exported: Any) -> None:
    bundle = open_bundle(exported / "tiny" / "common")
    engine = CountingEngine(type("E", (), {"bundle": bundle})())

    def check_wanted() -> None:
        if engine.runs == 2:
            raise Late("nobody waits")

    spec: Spec = bundle.topology.full
    call = Classify(1, REF, [spec] * 9, 0, None, 1000)
    with pytest.raises(Late):
        answer_call(call, cache_of(engine), pick("cpu"), check_wanted)
    assert engine.runs == 2


def test_a_classification_measures_what_its_networks_share_once(exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few passes over the calibration images serve all of them; each on its own would need one."""
    bundle = open_bundle(exported / "tiny" / "common")
    engine, specs = Engine(bundle, device="cpu"), list(ordered(bundle.topology))
    alone = Engine(bundle, device="cpu")
    pixels = bundle.experiment.normalise(bundle.experiment.evaluation[0][:1])
    expected = [alone.logits(spec, pixels)[0] for spec in specs]
    passes: list[int] = []

    def counted(units: Any, *rest: Any, **options: Any) -> Any:
        passes.append(len(units))
        return execute(units, *rest, **options)

    monkeypatch.setattr(calibrator, "execute", counted)
    _, predictions = cast(Any, answer_call(Classify(1, REF, specs, 0, None, 1000), cache_of(engine), pick("cpu"), lambda: None))
    assert 1 <= len(passes) <= math.ceil(len(specs) / SPECS_TOGETHER) < len(specs)
    assert [spec for spec, _ in predictions] == specs
    for (_, probabilities), logits in zip(predictions, expected, strict=True):
        assert np.argmax(probabilities) == np.argmax(logits)
        np.testing.assert_allclose(np.log(probabilities), logits - np.log(np.exp(logits).sum()), atol=1e-3)


def test_a_classification_that_nobody_waits_for_ends_within_the_pass(exported: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(exported / "tiny" / "common")
    asked: list[None] = []

    def check_wanted() -> None:
        asked.append(None)
        raise Late("nobody waits")

    finished: list[object] = []
    monkeypatch.setattr(Calibrator, "_average", lambda *_: finished.append(None))
    call = Classify(1, REF, list(ordered(bundle.topology)), 0, None, 1000)
    with pytest.raises(Late):
        answer_call(call, cache_of(Engine(bundle, device="cpu")), pick("cpu"), check_wanted)
    assert asked
    assert finished == []
