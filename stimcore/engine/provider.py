"""The onnxruntime provider that runs networks, and sessions on it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from stimcore.engine.cpus import session_threads
from stimcore.engine.cuda import CPU, CUDA, NO_GPU, GpuMemoryFull, GpuUnusable, is_memory_full, why_no_cuda
from stimcore.errors import UsageError

T = TypeVar("T")
log = logging.getLogger("stimcore.engine")
ERRORS_ONLY = 3
"""onnxruntime's log level. Its warnings are about graphs that it could optimise further, which no user can act on."""

_EXACTLY_AS_ASKED = {
    "max_mem": 0,
    # strategy 1 grows by what is asked for; the default doubles, and the arena would keep up to twice what it ever used
    "arena_extend_strategy": 1,
    "initial_chunk_size_bytes": -1,
    "max_dead_bytes_per_chunk": -1,
}

CUDA_OPTIONS = {
    # TF32 rounds to 10 bits: off, so that results agree with the torch reference
    "use_tf32": 0,
    # trying all algorithms takes longer than the few batches that most graphs run
    "cudnn_conv_algo_search": "HEURISTIC",
    # of a session that has an arena of its own, which by default grows to the next power of two
    "arena_extend_strategy": "kSameAsRequested",
}
"""Options of the CUDA provider, for every session on a GPU."""


def session_options(threads: int = 0, *, flush_denormals: bool = False, spin: bool = True) -> ort.SessionOptions:
    """Return the options of a session.

    Args:
        threads: Threads inside one operator; one per core when 0.
        flush_denormals: Compute with 0 in place of denormal numbers, which are up to a hundred times slower than others.
        spin: Let idle threads wait busily, which answers fastest where nothing else wants the processor.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = session_threads(threads), 1
    options.log_severity_level = ERRORS_ONLY
    if flush_denormals:
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
    if not spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def file_session(path: Path, threads: int = 0) -> ort.InferenceSession:
    """Return a plain CPU session of a file, as any user of onnxruntime would open it.

    Args:
        path: An ONNX file; the file of its weights lies in the same folder.
        threads: Threads inside one operator; one per core when 0.
    """
    return ort.InferenceSession(path, session_options(threads), providers=[CPU])


@dataclass(frozen=True)
class Provider:
    """Where networks run.

    Attributes:
        name: onnxruntime's name of the provider.
        reason: Why networks don't run on a GPU, in one sentence; None on a GPU and where the CPU was asked for.
        device: Index of the GPU.
        decomposes: Whether batch norms that are measured are written as reductions, because the provider's
            `BatchNormalization` has no training mode. It is so for CUDA and for providers that are passed through; the tests
            set it for the CPU, on which the same graphs must give the same counts.
    """

    name: str
    reason: str | None = None
    device: int = 0
    decomposes: bool = False

    @property
    def degraded(self) -> bool:
        """Whether there is a GPU that can't be used, which somebody would want to repair."""
        return self.reason not in (None, NO_GPU)

    @property
    def on_gpu(self) -> bool:
        """Whether tensors are in the memory of a GPU."""
        return self.name == CUDA

    def session(self, model: bytes, threads: int) -> "Session":
        """Return a session of a serialised model.

        Args:
            model: A self-contained ONNX model.
            threads: Threads inside one operator; ignored on a GPU.

        Raises:
            GpuUnusable: The session is not on the GPU on which it should be.
            GpuMemoryFull: The memory of the GPU is full.
        """
        # many sessions share the cores: threads that spin while they wait would take them from each other
        options = session_options(threads, flush_denormals=True, spin=False)
        if not self.on_gpu:
            _share_memory()
            options.add_session_config_entry("session.use_env_allocators", "1")
            others = [] if self.name == CPU else [self.name]
            return Session(ort.InferenceSession(model, options, providers=[*others, CPU]), self)
        if _share_gpu_memory(self.device):
            options.add_session_config_entry("session.use_env_allocators", "1")
        settings = {"device_id": self.device, **CUDA_OPTIONS}
        session = _on_gpu(lambda: ort.InferenceSession(model, options, providers=[(self.name, settings), CPU]))
        # where CUDA fails, onnxruntime makes the session on the processor and does not say so
        if self.name not in session.get_providers():
            raise GpuUnusable("a network could not be put on the GPU")
        return Session(session, self)

    def value(self, array: NDArray[np.float32]) -> ort.OrtValue:
        """Return an array as a tensor where this provider's networks read it.

        Raises:
            GpuMemoryFull: The memory of the GPU is full.
        """
        if self.on_gpu:
            return _on_gpu(lambda: ort.OrtValue.ortvalue_from_numpy(array, "cuda", self.device))
        return ort.OrtValue.ortvalue_from_numpy(array)

    def to_keep(self, value: ort.OrtValue) -> ort.OrtValue:
        """Return a network's output in a form that may be cached for long.

        On the CPU this is a copy outside of the arena that all sessions share. A value that stays inside splits the arena, so
        that it has to grow for the next large tensor although it has enough free memory in all.
        """
        return value if self.on_gpu else ort.OrtValue.ortvalue_from_numpy(to_array(value))

    def describe(self) -> dict[str, str | bool]:
        """Return what records of measurements store about the provider."""
        return {"provider": self.name, "onnxruntime": ort.__version__, "tf32": bool(CUDA_OPTIONS["use_tf32"])}


class Session:
    """An onnxruntime session whose outputs stay on its device. Several threads may run it at once."""

    def __init__(self, session: ort.InferenceSession, provider: Provider) -> None:
        self._session, self._provider = session, provider
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, feeds: Mapping[str, ort.OrtValue], outputs: Sequence[str] | None = None) -> list[ort.OrtValue]:
        """Run the graph and return outputs in order.

        Args:
            feeds: Input -> tensor, as `Provider.value` makes it.
            outputs: Names of the outputs that are computed; all when None.

        Raises:
            GpuMemoryFull: The memory of the GPU is full.
        """
        binding = self._session.io_binding()
        for name, value in feeds.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs if outputs is None else outputs:
            if self._provider.on_gpu:
                binding.bind_output(name, "cuda", self._provider.device)
            else:
                binding.bind_output(name)
        if self._provider.on_gpu:
            _on_gpu(lambda: self._session.run_with_iobinding(binding))
        else:
            self._session.run_with_iobinding(binding)
        values: list[ort.OrtValue] = binding.get_outputs()
        return values


def to_array(value: ort.OrtValue) -> NDArray[np.float32]:
    """Return a network's output as an array with its own memory.

    `OrtValue.numpy` may share memory with the tensor: the array would then hold a piece of the arena for as long as it lives.
    """
    array: NDArray[np.float32] = value.numpy().copy()
    return array


def pick(device: str) -> Provider:
    """Return the provider for a device.

    Args:
        device: `cpu`, `cuda`, `cuda:N`, or `auto` for a GPU where there is one. Also the name of another provider that this
            onnxruntime was built with, such as `OpenVINOExecutionProvider`: it is passed through, and what it computes is not
            vouched for.

    Raises:
        UsageError: The name is another one, or CUDA was asked for and can't run.

    Example:
        >>> pick("cpu").name
        'CPUExecutionProvider'
    """
    if device.endswith("ExecutionProvider") and device not in (CPU, CUDA):
        if device not in (present := ort.get_available_providers()):
            raise UsageError(f"this onnxruntime has no provider '{device}'", allowed=", ".join(present))
        return Provider(device, decomposes=True)
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
        raise UsageError(f"there is no device '{device}'", allowed="auto, cpu, cuda, cuda:0, ...")
    if kind == "cpu":
        return Provider(CPU)
    reason = why_no_cuda(int(index or 0))
    if reason is None:
        return Provider(CUDA, device=int(index or 0), decomposes=True)
    if kind == "cuda":
        raise UsageError(f"device '{device}' can't be used: {reason}", allowed="auto, cpu")
    return Provider(CPU, reason)


@cache
def _share_memory() -> None:
    """Register one arena for the activations of all CPU sessions of this process.

    By default every session has its own, which never shrinks below the session's peak: with hundreds of cached sessions that is
    far more than what runs at any moment. Sessions must ask for the shared arena (`session.use_env_allocators`).
    """
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(_EXACTLY_AS_ASKED))


@cache
def _share_gpu_memory(device: int) -> bool:
    """Register one arena for all sessions of this process on a GPU, for the same reason; return whether there is one.

    Where onnxruntime refuses to, every session keeps an arena of its own: that takes more memory and gives the same results.
    """
    memory = ort.OrtMemoryInfo("Cuda", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, device, ort.OrtMemType.DEFAULT)
    try:
        ort.create_and_register_allocator_v2(CUDA, memory, {"device_id": str(device)}, ort.OrtArenaCfg(_EXACTLY_AS_ASKED))
    except Exception as reason:  # onnxruntime raises many types
        log.info("sessions on GPU %d don't share their memory: %s", device, str(reason).partition("\n")[0])
        return False
    return True


def _on_gpu(run: Callable[[], T]) -> T:
    """Return what a function returns that uses the GPU; full memory becomes an error of its own, which callers can act on.

    Raises:
        GpuMemoryFull: The memory of the GPU is full.
    """
    try:
        return run()
    except Exception as reason:  # onnxruntime raises many types
        if is_memory_full(reason):
            raise GpuMemoryFull("the memory of the GPU is full") from reason
        raise
