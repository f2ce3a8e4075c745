"""Inference through HTTP beside a direct call of onnxruntime and a bare server: one image, 32 images, 8 clients.

Model server, bare server and direct call take turns on the same network, with one thread of onnxruntime each. Several
connections at once keep the worker busy. Clients, servers and worker share the machine, so that at least two idle cores are
needed.
"""

import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from stimcore.bench.bundles import random_bundle
from stimcore.bench.check import at_least
from stimcore.bundle import Bundle
from stimcore.engine.cuda import CPU, CUDA
from stimcore.engine.provider import CUDA_OPTIONS, pick, session_options
from stimcore.errors import Unavailable
from stimcore.nets.catalogue import build
from stimcore.runs.machine import describe
from stimcore.serve import oip_codec
from stimcore.serve.client.embedded import EmbeddedServer
from stimcore.train.seeds import layers_seeded

REQUEST_IMAGES = 32
"""Images in one request of the throughput measurement."""
Floats = NDArray[np.float32]

JSON_BYTES = 8 << 20
"""Bytes of JSON that the server takes: 32 images in colour as numbers are two megabytes, and the default is one."""
CLIENTS = 8
"""Clients at once, each with one image."""
SERVERS = ("http", "bare")
"""The model server, and the bare one: see `bare_server.py`."""
NAMES = (
    "direct_batch1",
    "direct_batch32",
    *(f"{server}_{name}" for server in SERVERS for name in ("batch1", "batch32", "json32", "clients8")),
    "http_parallel32",
)
"""What is timed: one image, 32 images as bytes and as JSON, and one image of each of 8 clients."""
RATIOS: Mapping[str, tuple[str, str]] = {
    "throughput": ("direct_batch32", "http_parallel32"),
    "batch1_over_bare": ("http_batch1", "bare_batch1"),
    "batch32_over_bare": ("http_batch32", "bare_batch32"),
    "json32_over_bare": ("http_json32", "bare_json32"),
    "clients8_over_bare": ("http_clients8", "bare_clients8"),
}
"""Name of a ratio -> what is divided by what."""
GOALS: Mapping[str, float] = {"batch1_over_bare": 1.3, "batch32_over_bare": 1.05, "clients8_over_bare": 1.25}
"""Largest ratio that is aimed at; 8 clients at 0.8 of the bare server's rate take 1.25 of its time."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where requests go.

    Attributes:
        port: On this machine.
        path: Of the URL.
        headers: Further headers.
    """

    port: int
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured; the options of the command say what each field is."""

    network: str
    pixels: int
    rounds: int
    requests: int
    connections: int
    device: str


def run(settings: Settings) -> dict[str, Any]:
    """Measure, and return the report.

    Raises:
        UsageError: A number is out of range.
        Unavailable: The server returns other logits than the direct call.
    """
    at_least(settings, pixels=1, rounds=1, requests=1, connections=1)
    with layers_seeded("bench weights"):
        net = build(settings.network, input_shape=(3, settings.pixels, settings.pixels), num_classes=10).eval()
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    with tempfile.TemporaryDirectory() as folder:
        bundle = random_bundle(Path(folder), net, images=64, calibration=64)
        pixels = bundle.experiment.evaluation[0]
        many, one = (bundle.experiment.normalise(pixels[:count]) for count in (REQUEST_IMAGES, 1))
        with _serve(bundle, settings.device) as server:
            model = server.client().onnx(bundle.experiment.name, bundle.method, "main")
            direct = _direct_call(model, settings.device)
            ours = Target(
                port=int(server.url.rsplit(":", 1)[1]),
                path=f"/v2/models/{bundle.experiment.name}.{bundle.method}/infer",
                headers={"Authorization": f"Bearer {server.token}"},
            )
            with _bare(model, Path(folder)) as bare:
                targets = {"http": ours, "bare": bare}
                for target in targets.values():
                    _check(target, many, direct(many))
                for _ in range(settings.rounds):
                    _time_round(settings, direct, targets, many, one, seconds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "bench": "serve",
        "network": settings.network,
        "machine": describe(torch.device("cpu")) | {"threads": 1},
        "n": settings.rounds,
        "ratios": {name: median_ratio(seconds, over, under) for name, (over, under) in RATIOS.items()},
        "goals": dict(GOALS),
        "seconds": medians | {"added_batch1": medians["http_batch1"] - medians["direct_batch1"]},
        "requests": settings.requests,
        "connections": settings.connections,
        "images_per_second": {name: REQUEST_IMAGES / medians[name] for name in ("direct_batch32", "http_batch32")},
    }


def median_ratio(seconds: Mapping[str, Sequence[float]], over: str, under: str) -> float:
    """Return the median of the ratios of two rows, turn by turn: what slows a machine in one turn slows both."""
    return statistics.median(a / b for a, b in zip(seconds[over], seconds[under], strict=True))


def show(report: Mapping[str, Any]) -> int:
    """Print ratios beside their goals, and seconds; return the exit code."""
    for name, value in report["ratios"].items():
        goal = f"   goal: at most {report['goals'][name]:.2f}" if name in report["goals"] else ""
        print(f"{name:28} {value:8.3f}{goal}")
    for name, value in report["seconds"].items():
        print(f"{name:28} {1000 * value:8.3f} ms")
    print(f"n = {report['n']} turns of {report['requests']} requests, {report['network']}, {report['machine']['device']}")
    return 0


def _time_round(
    settings: Settings,
    direct: Callable[[Floats], Floats],
    targets: Mapping[str, Target],
    many: Floats,
    one: Floats,
    seconds: dict[str, list[float]],
) -> None:
    """Add the medians of one turn to `seconds`: the direct call, and every server one after the other."""
    for name, images in (("batch1", one), ("batch32", many)):
        seconds[f"direct_{name}"].append(statistics.median(_time_calls(partial(direct, images), settings.requests)))
        for server, target in targets.items():
            seconds[f"{server}_{name}"].append(_time_one_by_one(Connection(target, images), settings.requests))
    for server, target in targets.items():
        seconds[f"{server}_json32"].append(_time_one_by_one(Connection(target, many, as_json=True), settings.requests))
        connections = [Connection(target, one) for _ in range(CLIENTS)]
        seconds[f"{server}_clients8"].append(_time_at_once(connections, settings.requests))
    connections = [Connection(targets["http"], many) for _ in range(settings.connections)]
    seconds["http_parallel32"].append(_time_at_once(connections, settings.requests))


def _direct_call(model: bytes, device: str) -> Callable[[Floats], Floats]:
    """Return a function that runs a model in this process, on the server's device."""
    provider = pick(device)
    providers = [(CUDA, {"device_id": provider.device, **CUDA_OPTIONS}), CPU] if provider.on_gpu else [CPU]
    session = ort.InferenceSession(model, session_options(1, flush_denormals=True), providers=providers)

    def call(images: Floats) -> Floats:
        logits: Floats = session.run(["logits"], {"images": images})[0]
        return logits

    return call


@contextlib.contextmanager
def _bare(model: bytes, folder: Path) -> Iterator[Target]:
    """Start the bare server on a model."""
    (folder / "bare.onnx").write_bytes(model)
    command = [sys.executable, "-m", "stimcore.bench.bare_server", str(folder / "bare.onnx")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise Unavailable("the bare server did not start")
            yield Target(port=int(line), path="/infer", headers={})
        finally:
            process.stdin.close()
            process.wait()


@contextlib.contextmanager
def _serve(bundle: Bundle, device: str) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(
        bundle.path.parent.parent, arguments=["--device", device, "--threads", "1", "--limit", f"json_bytes={JSON_BYTES}"]
    )
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


class Connection:
    """A connection that stays open and sends the same request with every call.

    Args:
        target: The server.
        images: Normalised images.
        as_json: Whether they are sent as a list of numbers; as bytes otherwise.
    """

    def __init__(self, target: Target, images: Floats, *, as_json: bool = False) -> None:
        self.headers = dict(target.headers)
        if as_json:
            tensor = {"name": "images", "datatype": "FP32", "shape": list(images.shape), "data": images.ravel().tolist()}
            self.body = json.dumps({"inputs": [tensor]}).encode()
            self.headers["Content-Type"] = "application/json"
        else:
            self.body, length = oip_codec.encode_request(images)
            self.headers[oip_codec.LENGTH_HEADER] = str(length)
        self.path, self.count = target.path, len(images)
        self.connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)

    def __call__(self) -> Floats:
        """Send the request and return the logits `[B, K]`.

        Raises:
            Unavailable: The server refused it.
        """
        self.connection.request("POST", self.path, self.body, self.headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise Unavailable(f"the server answered {answer.status}: {content[:200]!r}")
        length = answer.getheader(oip_codec.LENGTH_HEADER)
        if length is not None:
            return oip_codec.decode_response(content, length, self.count)
        output = json.loads(content)["outputs"][0]
        return np.array(output["data"], np.float32).reshape(output["shape"])

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def _check(target: Target, images: Floats, expected: Floats) -> None:
    """Make sure that a server's logits are those of the direct call, as bytes and as JSON.

    Raises:
        Unavailable: They differ.
    """
    for as_json in (True, False):
        connection = Connection(target, images, as_json=as_json)
        difference = float(np.abs(connection() - expected).max())
        connection.close()
        if difference > 1e-3 * float(np.abs(expected).max()):
            raise Unavailable(f"the logits of {target.path} differ by {difference}")


def _time_calls(call: Callable[[], object], count: int) -> list[float]:
    """Return the seconds of each of `count` calls."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def _time_one_by_one(connection: Connection, count: int) -> float:
    """Return the median seconds of `count` requests over one connection."""
    connection()
    seconds = statistics.median(_time_calls(connection, count))
    connection.close()
    return seconds


def _time_at_once(connections: Sequence[Connection], count: int) -> float:
    """Return the seconds for each request when `count` requests go over several connections at once."""
    for connection in connections:
        connection()
    share = -(-count // len(connections))
    start = time.perf_counter()
    with ThreadPoolExecutor(len(connections)) as threads:
        list(threads.map(lambda connection: _time_calls(connection, share), connections))
    seconds = (time.perf_counter() - start) / (share * len(connections))
    for connection in connections:
        connection.close()
    return seconds
