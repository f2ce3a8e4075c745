"""Whether CUDA runs networks here, and what its errors mean.

A GPU may be there and not work: without the libraries that onnxruntime loads, with a driver that is broken or too old, or with
its memory full. onnxruntime then makes its session on the processor without an error, or fails at the first run. So nothing is
believed: the driver is asked, a small network is run, and its session is asked where it runs.

The driver is asked through its library, which WSL2 and Windows have like Linux; the device files of Linux exist only there.
"""

import contextlib
import ctypes
import io
import re
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from stimcore.engine.cpus import session_threads

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
NO_GPU = "no NVIDIA GPU was found on this machine"
PACKAGE = '"onnxruntime-gpu[cuda,cudnn]"'
DRIVERS = ("libcuda.so.1", "libcuda.so", "/usr/lib/wsl/lib/libcuda.so.1", "nvcuda.dll")
"""Libraries of the NVIDIA driver: on Linux, in WSL2 where the linker does not know its folder, and on Windows."""
NVIDIA_SMI_S = 10.0
"""Longest time to wait for `nvidia-smi`, which is slow to answer when nothing uses the driver."""
NO_DEVICE = 100
"""What `cuInit` returns where the driver is installed and sees no GPU, for instance because all are hidden from the process."""
FULL_MEMORY = (
    "out of memory",
    "Failed to allocate memory",
    "cudaErrorMemoryAllocation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "is smaller than requested bytes",
)
"""What errors say when the memory of a GPU is full. The process can go on: less memory may be enough."""
QUIET, WARNINGS = 4, 2
"""Levels of onnxruntime's log: fatal errors alone, and its default."""
_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[.\d]*): cannot open shared object")
_DRIVER_SYMBOL = re.compile(r"undefined symbol: cu[A-Z]")


class GpuUnusable(Exception):
    """The GPU can't do what it was asked for; the text is the reason as a clause."""


class GpuMemoryFull(GpuUnusable):
    """The memory of the GPU is full."""


def is_memory_full(reason: BaseException) -> bool:
    """Return whether an error says that the memory of a GPU is full.

    Example:
        >>> is_memory_full(RuntimeError("CUDA failure 2: out of memory ; GPU=0"))
        True
        >>> is_memory_full(RuntimeError("CUDA failure 700: an illegal memory access was encountered"))
        False
    """
    return any(words in str(reason) for words in FULL_MEMORY)


@cache
def why_no_cuda(device: int) -> str | None:
    """Return why CUDA can't run networks on a GPU, as a clause that says what to do; None when it can.

    The answer is found once per process.

    Args:
        device: Index of the GPU.
    """
    if (problem := driver_problem(device)) is not None:
        return problem
    if CUDA not in ort.get_available_providers():
        return (
            f"this onnxruntime was built without CUDA; 'pip uninstall onnxruntime' and 'pip install {PACKAGE}' replace it by "
            "one that uses the GPU"
        )
    ort.set_default_logger_severity(QUIET)  # what it would log becomes our one sentence
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it can't load
            ort.preload_dlls()
        used = run_trial(device)
    except Exception as reason:  # onnxruntime raises many types; each of them means that CUDA does not work
        if is_memory_full(reason):
            return "the memory of the GPU is full; end the programs that hold it, or choose another GPU with --device cuda:N"
        return f"CUDA failed ({_shortened(reason)}); {_advice()}"
    finally:
        ort.set_default_logger_severity(WARNINGS)
    return None if used == CUDA else f"onnxruntime could not start CUDA; {_advice()}"


def driver_problem(device: int = 0) -> str | None:
    """Return why the NVIDIA driver offers no such GPU, as a clause; None when it does."""
    driver = _driver()
    if driver is None:
        return NO_GPU
    code = driver.cuInit(0)
    count = ctypes.c_int(0)
    if code == 0:
        code = driver.cuDeviceGetCount(ctypes.byref(count))
    if code == NO_DEVICE or (code == 0 and count.value == 0):
        return NO_GPU
    if code != 0:
        return (
            f"the NVIDIA driver answers with error {code}; 'nvidia-smi' may say more, and a restart or a newer driver may help"
        )
    if device >= count.value:
        return f"there is no GPU {device}; the driver has {', '.join(f'cuda:{number}' for number in range(count.value))}"
    return None


def free_bytes(device: int = 0) -> int | None:
    """Return the free memory of a GPU in bytes, as `nvidia-smi` reports it; None where that does not answer.

    Args:
        device: Index of the GPU.
    """
    command = ["nvidia-smi", f"--id={device}", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True, timeout=NVIDIA_SMI_S)
        return int(done.stdout.strip().splitlines()[0]) << 20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def run_trial(device: int) -> str:
    """Run a network of one convolution on a GPU, which needs cuBLAS and cuDNN, and return the provider that ran it.

    Args:
        device: Index of the GPU.

    Raises:
        Exception: Whatever onnxruntime raises when it can't.
    """
    weight = numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float32), "weight")
    shape = [1, 1, 8, 8]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["in", "weight"], ["out"], pads=[1, 1, 1, 1])],
        "trial",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    options = ort.SessionOptions()
    options.log_severity_level = QUIET
    options.intra_op_num_threads = session_threads(1)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=[(CUDA, {"device_id": device}), CPU])
    session.run(None, {"in": np.ones(shape, np.float32)})
    return str(session.get_providers()[0])


def _driver() -> ctypes.CDLL | None:
    """Return the library of the NVIDIA driver, None where there is none."""
    for name in DRIVERS:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name)
    return None


def _advice() -> str:
    """Return what is missing, as far as the system's linker says it, and what to install."""
    why = _load_error()
    if (name := _LIBRARY.search(why)) is not None:
        return f"{name[1]} is missing, and 'pip install {PACKAGE}' brings it"
    if _DRIVER_SYMBOL.search(why):
        return "the NVIDIA driver is too old for this onnxruntime, and a newer one is needed"
    return f"its libraries may be missing, and 'pip install {PACKAGE}' brings them"


def _load_error() -> str:
    """Return the system's complaint when onnxruntime's CUDA provider is loaded; empty without one."""
    folder = Path(ort.__file__).parent / "capi"
    for name in ("libonnxruntime_providers_cuda.so", "onnxruntime_providers_cuda.dll"):
        if (folder / name).is_file():
            try:
                ctypes.CDLL(str(folder / name))
            except OSError as reason:
                return str(reason)
    return ""


def _shortened(reason: BaseException) -> str:
    """Return the beginning of an error's text on one line."""
    return " ".join(str(reason).split())[:160] or type(reason).__name__
