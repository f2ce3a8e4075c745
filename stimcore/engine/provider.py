"""Which onnxruntime provider runs, and in plain words why not a better one; sessions on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from stimcore.errors import UsageError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Provider:
    """Where networks run.

    Attributes:
        name: onnxruntime's name.
        reason: Why it is not the GPU, in one sentence; None on a GPU or where the CPU was asked for.
        device: Index of the GPU.
    """

    name: str
    reason: str | None = None
    device: int = 0

    @property
    def on_gpu(self) -> bool:
        """Whether tensors live on a GPU."""
        return self.name == CUDA

    def session(self, model: bytes, threads: int) -> "Session":
        """A session for a serialised model.

        Args:
            model: A self-contained ONNX model.
            threads: Inside one operator; ignored on a GPU.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not self.on_gpu:
            _share_memory()
            options.add_session_config_entry("session.use_env_allocators", "1")
            return Session(ort.InferenceSession(model, options, providers=[CPU]), self)
        # TF32 rounds to 10 bits: off, so that numbers agree with the torch reference
        own = {"device_id": self.device, "use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"}
        return Session(ort.InferenceSession(model, options, providers=[(self.name, own), CPU]), self)

    def value(self, array: NDArray[np.float32]) -> ort.OrtValue:
        """An array where this provider's networks read it."""
        if self.on_gpu:
            return ort.OrtValue.ortvalue_from_numpy(array, "cuda", self.device)
        return ort.OrtValue.ortvalue_from_numpy(array)

    def to_keep(self, value: ort.OrtValue) -> ort.OrtValue:
        """A network's output as it may be kept for long: on the CPU copied out of the sessions' arena, which it would split."""
        return value if self.on_gpu else ort.OrtValue.ortvalue_from_numpy(array(value))

    def describe(self) -> dict[str, str | bool]:
        """What a record says of where networks ran."""
        return {"provider": self.name, "onnxruntime": ort.__version__, "tf32": False}


class Session:
    """An onnxruntime session whose outputs stay on its device. Safe to run from several threads."""

    def __init__(self, session: ort.InferenceSession, provider: Provider) -> None:
        self._session, self._provider = session, provider
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, feeds: Mapping[str, ort.OrtValue], outputs: Sequence[str] | None = None) -> list[ort.OrtValue]:
        """Runs the graph; the wanted outputs (all when None) in order."""
        binding = self._session.io_binding()
        for name, value in feeds.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs if outputs is None else outputs:
            if self._provider.on_gpu:
                binding.bind_output(name, "cuda", self._provider.device)
            else:
                binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        found: list[ort.OrtValue] = binding.get_outputs()
        return found


def array(value: ort.OrtValue) -> NDArray[np.float32]:
    """A network's output as an array of its own; `OrtValue.numpy` may share memory, and hold the arena's."""
    found: NDArray[np.float32] = value.numpy().copy()
    return found


def pick(device: str) -> Provider:
    """The provider for `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        UsageError: Another name, or CUDA where it can't run.
    """
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
        raise UsageError(f"there is no device '{device}'", allowed="auto, cpu, cuda, cuda:0, ...")
    if kind == "cpu":
        return Provider(CPU)
    reason = _why_no_cuda()
    if reason is None:
        return Provider(CUDA, device=int(index or 0))
    if kind == "cuda":
        raise UsageError(f"device '{device}' can't be used: {reason}", allowed="auto, cpu")
    return Provider(CPU, reason)


@cache
def _share_memory() -> None:
    """All sessions of the process take their activations from one arena; each would keep one of its own peak's size."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    exactly_as_asked = {
        "max_mem": 0,
        "arena_extend_strategy": 1,
        "initial_chunk_size_bytes": -1,
        "max_dead_bytes_per_chunk": -1,
    }
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(exactly_as_asked))


def _why_no_cuda() -> str | None:
    if CUDA not in ort.get_available_providers():
        return "this onnxruntime was built without CUDA"
    if not Path("/dev/nvidiactl").exists():
        return "no NVIDIA GPU was found on this machine"
    ort.preload_dlls()
    return None
