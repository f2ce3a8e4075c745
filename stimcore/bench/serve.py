"""Inference through HTTP beside onnxruntime called directly: images per second at batch 32, time added at batch 1.

Server and direct call take turns on the same network, with one thread of onnxruntime each. Several connections keep the worker
busy. Clients, front process and worker share the machine, so that at least two idle cores are needed.
"""

import http.client
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
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
from stimcore.serve.client.embedded import EmbeddedServer
from stimcore.serve.http import oip_codec
from stimcore.train.seeds import layers_seeded

REQUEST_IMAGES = 32
"""Images in one request of the throughput measurement."""
Floats = NDArray[np.float32]


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
    throughput: list[float] = []
    seconds: dict[str, list[float]] = {"direct_batch32": [], "http_batch32": [], "direct_batch1": [], "http_batch1": []}
    with tempfile.TemporaryDirectory() as folder:
        bundle = random_bundle(Path(folder), net, images=64, calibration=64)
        pixels = bundle.experiment.evaluation[0]
        many, one = (bundle.experiment.normalise(pixels[:count]) for count in (REQUEST_IMAGES, 1))
        with _serve(bundle, settings.device) as server:
            direct = _direct_call(server.client().onnx(bundle.experiment.name, bundle.method, "main"), settings.device)
            path = f"/v2/models/{bundle.experiment.name}.{bundle.method}/infer"
            _check(server, path, many, direct(many))
            for _ in range(settings.rounds):
                in_process = statistics.mean(_time_calls(lambda: direct(many), settings.requests))
                over_http = _time_http(server, path, many, settings.requests, settings.connections)
                seconds["direct_batch32"].append(in_process)
                seconds["http_batch32"].append(over_http)
                throughput.append(in_process / over_http)
                seconds["direct_batch1"] += _time_calls(lambda: direct(one), settings.requests)
                seconds["http_batch1"] += _time_http_one_by_one(server, path, one, settings.requests)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "bench": "serve",
        "network": settings.network,
        "machine": describe(torch.device("cpu")) | {"threads": 1},
        "n": settings.rounds,
        "ratios": {"throughput": statistics.median(throughput)},
        "seconds": medians | {"added_batch1": medians["http_batch1"] - medians["direct_batch1"]},
        "requests": settings.requests,
        "connections": settings.connections,
        "images_per_second": {name: REQUEST_IMAGES / medians[name] for name in ("direct_batch32", "http_batch32")},
    }


def _direct_call(model: bytes, device: str) -> Callable[[Floats], Floats]:
    """Return a function that runs a model in this process, on the server's device."""
    provider = pick(device)
    providers = [(CUDA, {"device_id": provider.device, **CUDA_OPTIONS}), CPU] if provider.on_gpu else [CPU]
    session = ort.InferenceSession(model, session_options(1, flush_denormals=True), providers=providers)

    def call(images: Floats) -> Floats:
        logits: Floats = session.run(["logits"], {"images": images})[0]
        return logits

    return call


@contextmanager
def _serve(bundle: Bundle, device: str) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(bundle.path.parent.parent, arguments=["--device", device, "--threads", "1"])
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


class _Connection:
    """A connection that stays open and sends the same request with every call."""

    def __init__(self, server: EmbeddedServer, path: str, images: Floats) -> None:
        self.body, length = oip_codec.encode_request(images)
        self.path, self.count = path, len(images)
        self.headers = {"Authorization": f"Bearer {server.token}", "Inference-Header-Content-Length": str(length)}
        self.connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rsplit(":", 1)[1]), timeout=60)

    def __call__(self) -> Floats:
        self.connection.request("POST", self.path, self.body, self.headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise Unavailable(f"the server answered {answer.status}: {content[:200]!r}")
        return oip_codec.decode_response(content, answer.getheader("Inference-Header-Content-Length"), self.count)


def _check(server: EmbeddedServer, path: str, images: Floats, expected: Floats) -> None:
    difference = float(np.abs(_Connection(server, path, images)() - expected).max())
    if difference > 1e-3 * float(np.abs(expected).max()):
        raise Unavailable(f"the server's logits differ by {difference}")


def _time_calls(call: Callable[[], object], count: int) -> list[float]:
    """Return the seconds of each of `count` calls."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def _time_http_one_by_one(server: EmbeddedServer, path: str, images: Floats, count: int) -> list[float]:
    """Return the seconds of each of `count` requests over one connection."""
    connection = _Connection(server, path, images)
    connection()
    return _time_calls(connection, count)


def _time_http(server: EmbeddedServer, path: str, images: Floats, count: int, num_connections: int) -> float:
    """Return the seconds for each request when `count` requests go over several connections at once."""
    connections = [_Connection(server, path, images) for _ in range(num_connections)]
    for connection in connections:
        connection()
    share = -(-count // num_connections)
    start = time.perf_counter()
    with ThreadPoolExecutor(num_connections) as threads:
        list(threads.map(lambda connection: _time_calls(connection, share), connections))
    return (time.perf_counter() - start) / (share * num_connections)
