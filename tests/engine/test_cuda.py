"""A GPU that doesn't work, or whose memory is full: the reason in one sentence, smaller batches, then the processor.

There is no GPU here. What driver and onnxruntime say where one fails is put in their place; networks run in onnxruntime.
"""

import logging
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from stimcore.bundle import Bundle
from stimcore.engine import cuda, provider
from stimcore.engine.cuda import CPU, CUDA, NO_GPU, driver_problem, why_no_cuda
from stimcore.engine.engine import Engine
from stimcore.engine.inference import Progress
from stimcore.engine.provider import pick
from stimcore.errors import UsageError

OUT_OF_MEMORY = (
    "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory ; GPU=0 ; hostname=h ; expr=cudaMalloc((void**)&p, size);"
)


class Driver:
    """A library of the NVIDIA driver with some answers."""

    def __init__(self, count: int = 1, init: int = 0) -> None:
        self.count, self.init = count, init

    def cuInit(self, _flags: int) -> int:  # noqa: N802  # the driver's name
        return self.init

    def cuDeviceGetCount(self, into: Any) -> int:  # noqa: N802  # the driver's name
        into._obj.value = self.count
        return 0


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    """The answer of a process is kept: begin and end every test without one."""
    why_no_cuda.cache_clear()
    yield
    why_no_cuda.cache_clear()


def failing(text: str) -> Callable[[int], str]:
    def trial(_device: int) -> str:
        raise RuntimeError(text)

    return trial


@pytest.mark.parametrize(
    ("driver", "device", "expected"),
    [
        (None, 0, NO_GPU),
        (Driver(count=0), 0, NO_GPU),
        (Driver(init=100), 0, NO_GPU),
        (Driver(init=999), 0, "error 999"),
        (Driver(count=2), 2, "there is no GPU 2; the driver has cuda:0, cuda:1"),
        (Driver(count=2), 1, None),
    ],
)
def test_the_driver_is_asked(driver: Driver | None, device: int, expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "_driver", lambda: driver)
    problem = driver_problem(device)
    assert problem == expected if expected is None else expected in (problem or "")


@pytest.mark.parametrize(
    ("trial", "load_error", "expected"),
    [
        (
            lambda _: CPU,
            "libcublasLt.so.13: cannot open shared object file: No such file",
            "libcublasLt.so.13 is missing, and 'pip install",
        ),
        (lambda _: CPU, "providers_cuda.so: undefined symbol: cuTensorMapEncodeTiled", "driver is too old"),
        (lambda _: CPU, "", "could not start CUDA; its libraries may be missing, and 'pip install"),
        (failing("CUDNN_STATUS_NOT_INITIALIZED\nin line 3"), "", "CUDA failed (CUDNN_STATUS_NOT_INITIALIZED in line 3)"),
        (failing(OUT_OF_MEMORY), "", "the memory of the GPU is full; end the programs"),
        (lambda _: CUDA, "", None),
    ],
    ids=["library", "old driver", "silent", "cuDNN", "memory", "works"],
)
def test_a_gpu_is_tried_and_auto_says_what_to_install(
    trial: Callable[[int], str], load_error: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "_driver", Driver)
    monkeypatch.setattr(cuda, "_load_error", lambda: load_error)
    monkeypatch.setattr(cuda, "run_trial", trial)
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load libcublasLt.so.13"), raising=False)
    provider = pick("auto")
    if expected is None:
        assert (provider.name, provider.reason, provider.degraded) == (CUDA, None, False)
        assert pick("cuda:0").on_gpu
        return
    assert (provider.name, provider.degraded) == (CPU, True)
    assert expected in (provider.reason or "")
    assert "\n" not in (provider.reason or "")
    with pytest.raises(UsageError) as refused:
        pick("cuda")
    assert str(refused.value) == f"device 'cuda' can't be used: {provider.reason}; allowed: auto, cpu."


def test_a_build_without_cuda_is_named_only_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU])
    monkeypatch.setattr(cuda, "_driver", lambda: None)
    assert (pick("auto").reason, pick("auto").degraded) == (NO_GPU, False)
    why_no_cuda.cache_clear()
    monkeypatch.setattr(cuda, "_driver", Driver)
    assert "built without CUDA; 'pip uninstall onnxruntime' and 'pip install \"onnxruntime-gpu" in (pick("auto").reason or "")


def test_the_trial_runs_a_network_where_onnxruntime_puts_it() -> None:
    """Here onnxruntime has no GPU and takes the processor without an error: what the session is asked for."""
    if pick("auto").on_gpu:
        pytest.skip("needs a machine without a working GPU")
    ort.set_default_logger_severity(4)
    try:
        assert cuda.run_trial(0) == CPU
    finally:
        ort.set_default_logger_severity(2)


class Gpu:
    """Stands for `onnxruntime` in `stimcore.engine.provider`: sessions and values of a GPU, computed on the processor.

    Attributes:
        full: Decides from the number of images whether a run finds the memory full.
        fell_off: Whether new sessions are on the processor.
        batches: Number of images of every run that worked.
        arenas: Provider and options of every arena that was registered.
        refuses_arena: Whether none can be registered.
        shared: Of every session on the GPU whether it was asked to use that arena: "1", or the empty text.
    """

    def __init__(self, full: Callable[[int], bool] = lambda _: False) -> None:
        self.full, self.fell_off, self.batches = full, False, list[int]()
        self.arenas, self.refuses_arena, self.shared = list[tuple[str, dict[str, str]]](), False, list[str]()
        gpu = self

        class Session:
            def __init__(self, model: bytes, options: ort.SessionOptions, providers: list[Any]) -> None:
                if providers != [CPU]:
                    gpu.shared.append(_entry(options, "session.use_env_allocators"))
                self._real = ort.InferenceSession(model, options, providers=[CPU])
                self._on_gpu = providers != [CPU]

            def get_providers(self) -> list[str]:
                return [CUDA, CPU] if self._on_gpu and not gpu.fell_off else [CPU]

            def get_outputs(self) -> Any:
                return self._real.get_outputs()

            def io_binding(self) -> "Binding":
                return Binding(self._real.io_binding())

            def run_with_iobinding(self, binding: "Binding") -> None:
                if self._on_gpu and gpu.full(binding.images):
                    raise RuntimeError(OUT_OF_MEMORY)
                gpu.batches += [binding.images] * self._on_gpu
                self._real.run_with_iobinding(binding.real)

        class Binding:
            def __init__(self, real: Any) -> None:
                self.real, self.images = real, 0

            def bind_ortvalue_input(self, name: str, value: ort.OrtValue) -> None:
                self.images = value.shape()[0]
                self.real.bind_ortvalue_input(name, value)

            def bind_output(self, name: str, *_device: Any) -> None:
                self.real.bind_output(name)

            def get_outputs(self) -> Any:
                return self.real.get_outputs()

        self.InferenceSession = Session

    class OrtValue:
        """Values that are in the memory of the processor, whatever they are asked for."""

        @staticmethod
        def ortvalue_from_numpy(array: Any, *_device: Any) -> ort.OrtValue:
            return ort.OrtValue.ortvalue_from_numpy(array)

    def create_and_register_allocator_v2(self, name: str, memory: ort.OrtMemoryInfo, options: Any, config: Any) -> None:
        if self.refuses_arena:
            raise RuntimeError("no arena")
        assert isinstance(config, ort.OrtArenaCfg)
        assert isinstance(memory, ort.OrtMemoryInfo)
        self.arenas.append((name, options))

    def __getattr__(self, name: str) -> Any:
        return getattr(ort, name)


def _entry(options: ort.SessionOptions, key: str) -> str:
    """Return an entry of a session's configuration; empty where there is none."""
    try:
        return str(options.get_session_config_entry(key))
    except RuntimeError:
        return ""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """A machine with a GPU that works, until a test fills its memory."""
    made = Gpu()
    monkeypatch.setattr(provider, "ort", made)
    monkeypatch.setattr(provider, "_share_gpu_memory", cache(provider._share_gpu_memory.__wrapped__))
    monkeypatch.setattr(provider, "why_no_cuda", lambda _device: None)
    return made


def evaluate(engine: Engine, text: str = "d2-1-3") -> list[Progress]:
    return list(engine.evaluate([engine.bundle.topology.parse(text)], chunk_images=100, collect_hits=True))


def correct(progress: Progress) -> list[int]:
    return [result.correct for result in progress.results.values()]


def test_full_memory_makes_batches_smaller(small: list[Bundle], gpu: Gpu) -> None:
    """Calibration batches have the size that the numbers are defined with, so that only evaluation batches can shrink."""
    whole = evaluate(Engine(small[0], device="cpu", threads=1))[-1]
    gpu.full = lambda count: 20 < count < 126
    engine = Engine(small[0], device="cuda", threads=1)
    reports = evaluate(engine)
    assert (reports[-1].images, reports[-1].note, reports[-1].provider) == (whole.images, "", "")
    assert correct(reports[-1]) == correct(whole)
    for spec, hits in whole.hits.items():
        np.testing.assert_array_equal(reports[-1].hits[spec], hits)
    seen = [progress.images for progress in reports if progress.phase == "evaluate"]
    assert seen == sorted(seen)
    assert {count for count in gpu.batches if count < 126} <= set(range(1, 21))
    # the smaller size stays: nothing fails a second time
    failures: list[int] = []

    def full(count: int) -> bool:
        if 20 < count < 126:
            failures.append(count)
        return bool(failures)

    gpu.full = full
    assert correct(evaluate(engine, "d1-1-1")[-1]) == correct(evaluate(Engine(small[0], device="cpu", threads=1), "d1-1-1")[-1])
    assert failures == []


@pytest.mark.parametrize("refused", [False, True])
def test_sessions_on_a_gpu_share_one_arena_where_there_is_one(small: list[Bundle], gpu: Gpu, refused: bool) -> None:
    gpu.refuses_arena = refused
    engine = Engine(small[0], device="cuda", threads=1)
    for text in ("d2-1-3", "d1-1-1"):
        assert correct(evaluate(engine, text)[-1]) == correct(evaluate(Engine(small[0], device="cpu", threads=1), text)[-1])
    assert gpu.arenas == ([] if refused else [(CUDA, {"device_id": "0"})])
    assert len(gpu.shared) > 1
    assert set(gpu.shared) == {"" if refused else "1"}


@pytest.mark.parametrize("when", ["from the beginning", "while it evaluates", "no session"])
def test_what_the_gpu_cannot_do_runs_on_the_processor_and_says_so(
    small: list[Bundle], gpu: Gpu, when: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = evaluate(Engine(small[0], device="cpu", threads=1))[-1]
    engine = Engine(small[0], device="cuda", threads=1)
    gpu.full = {"from the beginning": lambda _: True, "while it evaluates": lambda count: count < 126}.get(
        when, lambda _: False
    )
    gpu.fell_off = when == "no session"
    with caplog.at_level(logging.WARNING, "stimcore.engine"):
        last = evaluate(engine)[-1]
    why = "A network could not be put on the GPU" if gpu.fell_off else "The memory of the GPU is full"
    assert last.note == f"{why}, so that this evaluation ran on the processor."
    assert (last.provider, correct(last), last.done) == (CPU, correct(whole), True)
    assert [record.getMessage().endswith(last.note) for record in caplog.records] == [True]
    # the next evaluation finds that the GPU works again
    gpu.full, gpu.fell_off = lambda _: False, False
    assert (evaluate(engine)[-1].provider, engine.provider) == ("", CUDA)


def test_an_inference_is_divided_before_the_processor_takes_it(
    small: list[Bundle], gpu: Gpu, caplog: pytest.LogCaptureFixture
) -> None:
    images = small[0].experiment.normalise(small[0].experiment.evaluation[0][:9])
    spec = small[0].topology.parse("d2-1-3")
    expected = Engine(small[0], device="cpu", threads=1).logits(spec, images)
    engine = Engine(small[0], device="cuda", threads=1)
    gpu.full = lambda count: 2 < count < 126
    np.testing.assert_allclose(engine.logits(spec, images), expected, atol=1e-5)
    assert not caplog.records
    gpu.full = lambda _: True
    np.testing.assert_allclose(engine.logits(spec, images), expected, atol=1e-5)
    assert "an inference ran on the processor" in caplog.text
