"""Inference through HTTP beside onnxruntime called directly: images per second at batch 32, time added at batch 1.

Server and direct call take turns, with one thread of onnxruntime each, on the same network. The server is asked over as many
connections as keep its worker busy; clients, front and worker share the machine, so at least two free cores are needed.
"""

import argparse
import http.client
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from stimcore.bench.bundles import random_bundle
from stimcore.bundle import Bundle
from stimcore.errors import Unavailable, UsageError
from stimcore.nets.catalogue import build
from stimcore.runs.machine import describe
from stimcore.serve.client.embedded import Embedded
from stimcore.serve.http import oip_codec
from stimcore.train.seeds import layers_seeded

BATCH = 32
Images = NDArray[np.float32]


def add_arguments(line: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    line.add_argument("--network", default="resnet20", help="a name of the catalogue (default: %(default)s)")
    line.add_argument("--pixels", type=int, default=32, help="side of the images (default: %(default)s)")
    line.add_argument("--rounds", type=int, default=5, help="turns (default: %(default)s)")
    line.add_argument("--requests", type=int, default=40, help="in every turn (default: %(default)s)")
    line.add_argument("--connections", type=int, default=3, help="at once, at batch 32 (default: %(default)s)")
    line.add_argument("--device", default="cpu", help="of onnxruntime: auto, cpu, cuda or cuda:N (default: %(default)s)")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measures; returns the report.

    Raises:
        UsageError: A number that is out of range.
        Unavailable: The server's answer is not that of the direct call.
    """
    for name in ("pixels", "rounds", "requests", "connections"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name} {getattr(options, name)}", allowed="1 and more")
    with layers_seeded("bench weights"):
        net = build(options.network, input_shape=(3, options.pixels, options.pixels), num_classes=10).eval()
    throughput: list[float] = []
    seconds: dict[str, list[float]] = {"direct_batch32": [], "http_batch32": [], "direct_batch1": [], "http_batch1": []}
    with tempfile.TemporaryDirectory() as folder:
        bundle = random_bundle(Path(folder), net, images=64, calibration=64)
        pixels = bundle.experiment.evaluation[0]
        many, one = (bundle.experiment.normalise(pixels[:count]) for count in (BATCH, 1))
        with _served(bundle, options.device) as server:
            direct = _direct(server.client().onnx(bundle.experiment.name, bundle.method, "main"))
            path = f"/v2/models/{bundle.experiment.name}.{bundle.method}/infer"
            _check(server, path, many, direct(many))
            for _ in range(options.rounds):
                plain = _each(lambda: direct(many), options.requests)
                through = _over_http(server, path, many, options.requests, options.connections)
                seconds["direct_batch32"].append(plain)
                seconds["http_batch32"].append(through)
                throughput.append(plain / through)
                seconds["direct_batch1"] += _times(lambda: direct(one), options.requests)
                seconds["http_batch1"] += _one_by_one(server, path, one, options.requests)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "bench": "serve",
        "network": options.network,
        "machine": describe(torch.device("cpu")) | {"threads": 1},
        "n": options.rounds,
        "ratios": {"throughput": statistics.median(throughput)},
        "seconds": medians | {"added_batch1": medians["http_batch1"] - medians["direct_batch1"]},
        "requests": options.requests,
        "connections": options.connections,
        "images_per_second": {name: BATCH / medians[name] for name in ("direct_batch32", "http_batch32")},
    }


def _direct(model: bytes) -> Callable[[Images], Images]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def call(images: Images) -> Images:
        logits: Images = session.run(["logits"], {"images": images})[0]
        return logits

    return call


@contextmanager
def _served(bundle: Bundle, device: str) -> Iterator[Embedded]:
    server = Embedded(bundle.path.parent.parent, arguments=["--device", device, "--threads", "1"])
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()


class _Asker:
    """One kept connection that asks the same again and again."""

    def __init__(self, server: Embedded, path: str, images: Images) -> None:
        self.body, length = oip_codec.ask(images)
        self.path, self.count = path, len(images)
        self.headers = {"Authorization": f"Bearer {server.token}", "Inference-Header-Content-Length": str(length)}
        self.connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rsplit(":", 1)[1]), timeout=60)

    def __call__(self) -> Images:
        self.connection.request("POST", self.path, self.body, self.headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise Unavailable(f"the server answered {answer.status}: {content[:200]!r}")
        return oip_codec.logits_of(content, answer.getheader("Inference-Header-Content-Length"), self.count)


def _check(server: Embedded, path: str, images: Images, expected: Images) -> None:
    difference = float(np.abs(_Asker(server, path, images)() - expected).max())
    if difference > 1e-3 * float(np.abs(expected).max()):
        raise Unavailable(f"the server's logits differ by {difference}")


def _times(call: Callable[[], object], count: int) -> list[float]:
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def _each(call: Callable[[], object], count: int) -> float:
    """Seconds a call, of many in a row."""
    return sum(_times(call, count)) / count


def _one_by_one(server: Embedded, path: str, images: Images, count: int) -> list[float]:
    ask = _Asker(server, path, images)
    ask()
    return _times(ask, count)


def _over_http(server: Embedded, path: str, images: Images, count: int, connections: int) -> float:
    """Seconds a request, of many over several connections."""
    askers = [_Asker(server, path, images) for _ in range(connections)]
    for ask in askers:
        ask()
    share = -(-count // connections)
    start = time.perf_counter()
    with ThreadPoolExecutor(connections) as threads:
        list(threads.map(lambda ask: _times(ask, share), askers))
    return (time.perf_counter() - start) / (share * connections)
