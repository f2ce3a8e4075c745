"""MLServer on one onnxruntime session, for `bench serve --mlserver`: started from an environment of its own.

    python -m venv ml && ml/bin/pip install mlserver onnxruntime 'uvloop<0.22'
    python -m stimcore.bench serve --mlserver ml/bin/python

It runs as `mlserver start` starts it, apart from its ports. Its HTTP door takes tensors as JSON alone. The workers of MLServer
1.7.1 ask for an event loop where there is none, which uvloop makes up to 0.21.
"""

import contextlib
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stimcore.bench import environments
from stimcore.errors import Unavailable

MODEL = """
import numpy as np
import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from mlserver.utils import get_model_uri


class OnnxModel(MLModel):
    async def load(self):
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        path = await get_model_uri(self.settings)
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload):
        images = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32, copy=False)
        (logits,) = self._session.run(["logits"], {"images": images})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("logits", logits)])
"""
"""The runtime, as MLServer's documentation writes one: the session has the options that the other servers give theirs."""
NAME = "bench"
START = "import sys; from mlserver.cli import main; sys.argv = ['mlserver', 'start', sys.argv[1]]; main()"
PATIENCE_S = 300.0
"""Time for it to answer; it imports its whole tracing and metrics first."""


@dataclass(frozen=True)
class Started:
    """A server that answers.

    Attributes:
        port: Its HTTP port, on this machine.
        path: Path of the inference.
        pid: Its process, of which its workers are children.
    """

    port: int
    path: str
    pid: int


def version(python: Path) -> str:
    """Return MLServer's version in an environment.

    Raises:
        UsageError: There is no such program, or MLServer or onnxruntime is not installed there.
    """
    code = "import mlserver, onnxruntime; print(mlserver.__version__)"
    return environments.version("--mlserver", python, code, "mlserver onnxruntime")


@contextlib.contextmanager
def serving(python: Path, model: Path, folder: Path) -> Iterator[Started]:
    """Start MLServer on a model, and end it after the block.

    Args:
        python: The python of an environment with mlserver and onnxruntime.
        model: A self-contained ONNX file with input `images` and output `logits`.
        folder: An empty folder for its settings.

    Raises:
        Unavailable: It does not answer.
    """
    http, grpc, metrics = _free_ports(3)
    settings = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics, "debug": False}
    described = {"name": NAME, "implementation": "served.OnnxModel", "parameters": {"uri": str(model)}}
    (folder / "served.py").write_text(MODEL, encoding="utf-8")
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "model-settings.json").write_text(json.dumps(described), encoding="utf-8")
    log = folder / "log.txt"
    with log.open("wb") as out:
        process = subprocess.Popen([str(python), "-c", START, str(folder)], cwd=folder, stdout=out, stderr=out)
    try:
        _wait_ready(process, http, log)
        yield Started(http, f"/v2/models/{NAME}/infer", process.pid)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    url = f"http://127.0.0.1:{port}/v2/models/{NAME}/ready"
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.2)
    last = next(reversed(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()), "nothing in its log")
    raise Unavailable(f"MLServer did not start: {last[:200]}")


def _free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(sock.getsockname()[1]) for sock in socks]
