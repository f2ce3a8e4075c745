"""Which onnxruntime provider runs, and in plain words why not a better one; sessions on it."""

from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from stimcore.errors import UsageError


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

    def session(self, model: bytes, threads: int) -> ort.InferenceSession:
        """A session for a serialised model.

        Args:
            model: A self-contained ONNX model.
            threads: Inside one operator; ignored on a GPU.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        if self.name == "CPUExecutionProvider":
            return ort.InferenceSession(model, options, providers=[self.name])
        own = {"device_id": self.device, "use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"}
        return ort.InferenceSession(model, options, providers=[(self.name, own), "CPUExecutionProvider"])


def pick(device: str) -> Provider:
    """The provider for `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        UsageError: Another name, or CUDA where it can't run.
    """
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
        raise UsageError(f"there is no device '{device}'", allowed="auto, cpu, cuda, cuda:0, ...")
    if kind == "cpu":
        return Provider("CPUExecutionProvider")
    reason = _why_no_cuda()
    if reason is None:
        return Provider("CUDAExecutionProvider", device=int(index or 0))
    if kind == "cuda":
        raise UsageError(f"device '{device}' can't be used: {reason}", allowed="auto, cpu")
    return Provider("CPUExecutionProvider", reason)


def _why_no_cuda() -> str | None:
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "this onnxruntime was built without CUDA"
    if not Path("/dev/nvidiactl").exists():
        return "no NVIDIA GPU was found on this machine"
    ort.preload_dlls()
    return None
