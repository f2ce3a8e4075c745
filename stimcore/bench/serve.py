"""Inference through HTTP beside a direct call of onnxruntime and a bare server: one image, 32 images, 8 clients.

Model server, bare server, MLServer where an environment has it, and direct call take turns on the same network, with one thread
of onnxruntime each. Several connections at once keep the worker busy. Clients, servers and worker share the machine, so that at
least two idle cores are needed. The processor time of the processes of each server is told beside: other work on the machine
hardly changes it.
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
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import psutil
import torch
from numpy.typing import NDArray

from stimcore.bench import mlserver
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


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is sent to every server.

    Attributes:
        images: In one request.
        as_json: Whether they are sent as a list of numbers; as bytes otherwise.
        clients: Connections at once.
    """

    images: int
    as_json: bool = False
    clients: int = 1


LOADS: Mapping[str, Load] = {
    "batch1": Load(images=1),
    "batch32": Load(images=REQUEST_IMAGES),
    "clients8": Load(images=1, clients=CLIENTS),
    "json1": Load(images=1, as_json=True),
    "json32": Load(images=REQUEST_IMAGES, as_json=True),
    "json_clients8": Load(images=1, as_json=True, clients=CLIENTS),
}
"""Name -> what is timed at the model server (`http`), the bare one (see `bare_server.py`), and MLServer, which takes JSON."""
GOALS: Mapping[str, float] = {
    "batch1_over_bare": 1.3,
    "batch32_over_bare": 1.05,
    "clients8_over_bare": 1.25,
    "json1_over_mlserver": 1.0,
    "json32_over_mlserver": 1.0,
    "json_clients8_over_mlserver": 1.0,
}
"""Largest ratio that is aimed at; 8 clients at 0.8 of the bare server's rate take 1.25 of its time."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where requests go.

    Attributes:
        port: On this machine.
        path: Of the URL.
        headers: Further headers.
        pid: The server's process; those that it has started count as well.
        binary: Whether it takes tensors as bytes.
    """

    port: int
    path: str
    headers: Mapping[str, str]
    pid: int
    binary: bool = True

    def takes(self, load: Load) -> bool:
        """Return whether the server understands such requests."""
        return self.binary or load.as_json

    def processor_s(self) -> float:
        """Return the processor time of its processes so far, in seconds."""
        main = psutil.Process(self.pid)
        times = [process.cpu_times() for process in (main, *main.children(recursive=True))]
        return sum(time.user + time.system for time in times)


@dataclass
class Measured:
    """What was measured, by name, turn by turn.

    Attributes:
        seconds: Of one request, waited for.
        processor: Seconds of processor time that one request takes in all processes of the server.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    processor: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, seconds: float, processor: float | None = None) -> None:
        """Add one turn."""
        self.seconds.setdefault(name, []).append(seconds)
        if processor is not None:
            self.processor.setdefault(name, []).append(processor)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured; the options of the command say what each field is."""

    network: str
    pixels: int
    rounds: int
    requests: int
    connections: int
    device: str
    mlserver: Path | None = None


def run(settings: Settings) -> dict[str, Any]:
    """Measure, and return the report.

    Raises:
        UsageError: A number is out of range, or `mlserver` is no environment with MLServer.
        Unavailable: A server does not start, or returns other logits than the direct call.
    """
    at_least(settings, pixels=1, rounds=1, requests=1, connections=1)
    beside = {} if settings.mlserver is None else {"mlserver": mlserver.version(settings.mlserver)}
    with layers_seeded("bench weights"):
        net = build(settings.network, input_shape=(3, settings.pixels, settings.pixels), num_classes=10).eval()
    measured = Measured()
    with tempfile.TemporaryDirectory() as folder:
        bundle = random_bundle(Path(folder), net, images=64, calibration=64)
        pixels = bundle.experiment.evaluation[0]
        many, one = (bundle.experiment.normalise(pixels[:count]) for count in (REQUEST_IMAGES, 1))
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(_serve(bundle, settings.device))
            model = server.client().onnx(bundle.experiment.name, bundle.method, "main")
            direct = _direct_call(model, settings.device)
            ours = Target(
                port=int(server.url.rsplit(":", 1)[1]),
                path=f"/v2/models/{bundle.experiment.name}.{bundle.method}/infer",
                headers={"Authorization": f"Bearer {server.token}"},
                pid=server.pid,
            )
            targets = {"http": ours, "bare": stack.enter_context(_bare(model, Path(folder)))}
            if settings.mlserver is not None:
                targets["mlserver"] = stack.enter_context(_mlserver(settings.mlserver, Path(folder)))
            for target in targets.values():
                _check(target, many, direct(many))
            for _ in range(settings.rounds):
                _time_round(settings, direct, targets, {REQUEST_IMAGES: many, 1: one}, measured)
    medians = {name: statistics.median(values) for name, values in measured.seconds.items()}
    # of all turns together: systems count processor time in hundredths of a second, which a turn may be too short for
    processor = {name: [statistics.mean(values)] for name, values in measured.processor.items()}
    return {
        "bench": "serve",
        "network": settings.network,
        "machine": describe(torch.device("cpu")) | {"threads": 1} | beside,
        "n": settings.rounds,
        "ratios": _ratios(measured.seconds) | {f"{name}_processor": value for name, value in _ratios(processor).items()},
        "goals": dict(GOALS),
        "seconds": medians | {"added_batch1": medians["http_batch1"] - medians["direct_batch1"]},
        "processor_ms": {name: 1000 * value for name, (value,) in processor.items()},
        "requests": settings.requests,
        "connections": settings.connections,
        "images_per_second": {name: REQUEST_IMAGES / medians[name] for name in ("direct_batch32", "http_batch32")},
    }


def median_ratio(seconds: Mapping[str, Sequence[float]], over: str, under: str) -> float:
    """Return the median of the ratios of two rows, turn by turn: what slows a machine in one turn slows both."""
    return statistics.median(a / b for a, b in zip(seconds[over], seconds[under], strict=True))


def _ratios(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return what the model server takes over what each other server takes, of every load that both had.

    Args:
        values: What each server took of each load, turn by turn.
    """
    ratios = {}
    if "http_parallel32" in values and "direct_batch32" in values:
        ratios["throughput"] = median_ratio(values, "direct_batch32", "http_parallel32")
    for load in LOADS:
        for server in ("bare", "mlserver"):
            if all(values.get(f"{server}_{load}", [0.0])):  # taken, and long enough to be counted
                ratios[f"{load}_over_{server}"] = median_ratio(values, f"http_{load}", f"{server}_{load}")
    return ratios


def show(report: Mapping[str, Any]) -> int:
    """Print ratios beside their goals, and seconds; return the exit code."""
    for name, value in report["ratios"].items():
        goal = f"   goal: at most {report['goals'][name]:.2f}" if name in report["goals"] else ""
        print(f"{name:28} {value:8.3f}{goal}")
    for name, value in report["seconds"].items():
        print(f"{name:28} {1000 * value:8.3f} ms")
    for name, value in report["processor_ms"].items():
        print(f"{name:28} {value:8.3f} ms of processor time")
    print(f"n = {report['n']} turns of {report['requests']} requests, {report['network']}, {report['machine']['device']}")
    return 0


def _time_round(
    settings: Settings,
    direct: Callable[[Floats], Floats],
    targets: Mapping[str, Target],
    batches: Mapping[int, Floats],
    measured: Measured,
) -> None:
    """Add the medians of one turn: the direct call, and every server one after the other.

    Args:
        settings: How many requests.
        direct: The direct call.
        targets: Name -> server.
        batches: Number of images -> images.
        measured: What is added to.
    """
    for count, name in ((1, "batch1"), (REQUEST_IMAGES, "batch32")):
        times = _time_calls(partial(direct, batches[count]), settings.requests)
        measured.add(f"direct_{name}", statistics.median(times))
    for name, load in LOADS.items():
        for server, target in targets.items():
            if not target.takes(load):
                continue
            connections = [Connection(target, batches[load.images], as_json=load.as_json) for _ in range(load.clients)]
            if load.clients == 1:
                seconds, processor = _time_one_by_one(connections[0], settings.requests, target)
            else:
                seconds, processor = _time_at_once(connections, settings.requests, target)
            measured.add(f"{server}_{name}", seconds, processor)
    connections = [Connection(targets["http"], batches[REQUEST_IMAGES]) for _ in range(settings.connections)]
    measured.add("http_parallel32", _time_at_once(connections, settings.requests, targets["http"])[0])


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
            yield Target(port=int(line), path="/infer", headers={}, pid=process.pid)
        finally:
            process.stdin.close()
            process.wait()


@contextlib.contextmanager
def _mlserver(python: Path, folder: Path) -> Iterator[Target]:
    """Start MLServer on the model of the bare server."""
    (folder / "mlserver").mkdir()
    with mlserver.serving(python, folder / "bare.onnx", folder / "mlserver") as started:
        yield Target(port=started.port, path=started.path, headers={}, pid=started.pid, binary=False)


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
    for as_json in (True, False) if target.binary else (True,):
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


def _time_one_by_one(connection: Connection, count: int, target: Target) -> tuple[float, float]:
    """Return the median seconds of `count` requests over one connection, and the processor seconds that each takes."""
    connection()
    before = target.processor_s()
    seconds = statistics.median(_time_calls(connection, count))
    processor = (target.processor_s() - before) / count
    connection.close()
    return seconds, processor


def _time_at_once(connections: Sequence[Connection], count: int, target: Target) -> tuple[float, float]:
    """Return the seconds, and the processor seconds, of each of `count` requests over several connections at once."""
    for connection in connections:
        connection()
    share = -(-count // len(connections))
    before, start = target.processor_s(), time.perf_counter()
    with ThreadPoolExecutor(len(connections)) as threads:
        list(threads.map(lambda connection: _time_calls(connection, share), connections))
    seconds = (time.perf_counter() - start) / (share * len(connections))
    processor = (target.processor_s() - before) / (share * len(connections))
    for connection in connections:
        connection.close()
    return seconds, processor
