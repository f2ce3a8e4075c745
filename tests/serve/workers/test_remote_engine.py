"""Inference on another server: a second stimcore server stands in for a Triton, because it has the same protocol."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnxruntime as ort
import pytest

from stimcore.bundle import open_bundle
from stimcore.engine.engine import Engine
from stimcore.errors import BundleError, Unavailable
from stimcore.export.triton import write_repository
from stimcore.serve import oip_codec, types
from stimcore.serve.repository.models import bundle_ref
from stimcore.serve.tokens import ENGINE_TOKEN_VARIABLE
from stimcore.serve.workers.config import WorkerConfig
from stimcore.serve.workers.engines import EngineCache
from stimcore.serve.workers.remote_engine import BUNDLE_HEADER, RemoteEngine
from tests.serve.conftest import Start
from tests.serve.evaluations import job_request
from tests.serve.inference import URL, body
from tests.serve.processes import Running


@pytest.fixture(scope="module")
def front(server: Running, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Start a server that runs its networks on `server`."""
    log = tmp_path_factory.mktemp("front") / "server.log"
    with Running(exported, log, words=["--engine", f"triton://127.0.0.1:{server.port}"]) as running:
        yield running


def test_inference_and_evaluation_go_to_the_other_server(front: Running, server: Running, exported: Path) -> None:
    client = front.client()
    before = server.metric("stim_inferences_total")
    assert client.status().provider == f"triton http://127.0.0.1:{server.port}"
    logits = front.http.post(URL, content=json.dumps(body(parameters={"spec": "d2-1-3"}))).json()["outputs"][0]["data"]
    expected = server.http.post(URL, content=json.dumps(body(parameters={"spec": "d2-1-3"}))).json()["outputs"][0]["data"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    job = client.wait(client.submit(job_request("common", "main", "d1-1-1")).id)
    bundle = open_bundle(exported / "tiny" / "common")
    (*_, last) = Engine(bundle, device="cpu", threads=1).evaluate([bundle.topology.parse("d1-1-1")])
    for text, result in zip(("main", "d1-1-1"), job.results, strict=True):
        local = last.results[bundle.topology.parse(text)]
        assert (result.correct, result.images) == (local.correct, local.images)
        assert result.ce_nats == pytest.approx(local.ce_nats, abs=1e-4)
    assert job.provider.startswith("triton ")
    assert client.classify("tiny", types.ClassifyRequest(method="common", specs=["main"], index=0)).results
    assert client.onnx("tiny", "common", "1-3.4-5-6.7-8-9"), "downloads are composed here"
    assert server.metric("stim_inferences_total") > before + 4


def test_what_the_other_server_cant_do_is_refused_in_one_sentence(start: Start, front: Running) -> None:
    unlisted = front.http.post(URL, content=json.dumps(body(parameters={"spec": "2-1-3.4-5-6.7-8-9"})))
    assert unlisted.status_code == 400
    assert "not among the listed networks" in unlisted.json()["error"]
    job = front.client().wait(front.client().submit(job_request("common", "2-1-3.4-5-6.7-8-9")).id)
    assert job.error is not None
    assert job.error.code == "bad_spec"
    off = front.http.post(URL, content=json.dumps(body(parameters={"recalibrate": False})))
    assert off.status_code == 400
    assert "recalibrate" in off.json()["error"]
    down = start(words=["--engine", "triton://127.0.0.1:9"])
    answer = down.http.post(URL, content=json.dumps(body()))
    assert answer.status_code == 503
    assert "can't be reached" in answer.json()["error"]


def test_names_of_a_triton_repository_are_ours_too(server: Running, exported: Path, tmp_path: Path) -> None:
    bundle = open_bundle(exported / "tiny" / "common")
    specs = [bundle.topology.parse(entry.spec) for entry in bundle.manifest.networks.values()]
    assert len(write_repository(bundle, specs, tmp_path)) == 4
    images = np.ones((3, *bundle.experiment.image_shape), np.float32)
    content, length = oip_codec.encode_request(images)
    for folder in tmp_path.iterdir():
        session = ort.InferenceSession(folder / "1" / "model.onnx", providers=["CPUExecutionProvider"])
        answer = server.http.post(
            f"/v2/models/{folder.name}/infer", content=content, headers={"Inference-Header-Content-Length": str(length)}
        )
        logits = oip_codec.decode_response(answer.content, answer.headers["Inference-Header-Content-Length"], 3)
        np.testing.assert_allclose(logits, session.run(["logits"], {"images": images})[0], rtol=1e-3, atol=1e-4)


class Refusing(BaseHTTPRequestHandler):
    """An inference server that refuses everything, and remembers the tokens that it was shown."""

    tokens: ClassVar[list[str | None]] = []

    def do_POST(self) -> None:  # the name that http.server calls
        self.tokens.append(self.headers["Authorization"])
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the output of the tests clean."""


@pytest.mark.parametrize("token", ["a-token-of-that-server", None])
def test_the_other_server_gets_its_token(exported: Path, monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    monkeypatch.delenv(ENGINE_TOKEN_VARIABLE, raising=False)
    if token is not None:
        monkeypatch.setenv(ENGINE_TOKEN_VARIABLE, token)
    bundle = open_bundle(exported / "tiny" / "common")
    with HTTPServer(("127.0.0.1", 0), Refusing) as other:
        threading.Thread(target=other.handle_request).start()
        url = f"http://127.0.0.1:{other.server_port}"
        cache = EngineCache(WorkerConfig(device="cpu", threads=1, engines=1, keep_bytes=1 << 20, url=url))
        with pytest.raises(Unavailable, match="refused 'tiny.common': status 401"):
            cache.open(bundle_ref(bundle)).logits(bundle.topology.full, np.zeros((1, 1, 12, 12), np.float32))
    assert Refusing.tokens[-1] == (token and f"Bearer {token}")


@pytest.fixture
def another(exported: Path, own_exported: Path, start: Start) -> Running:
    """A server that has another training under the names of `exported`, as after an export on one of two machines."""
    shutil.rmtree(own_exported / "tiny" / "common")
    shutil.copytree(own_exported / "tiny" / "stimulative", own_exported / "tiny" / "common")
    return start(own_exported)


@pytest.mark.slow
def test_another_export_on_the_other_server_is_refused(another: Running, start: Start) -> None:
    front = start(words=["--engine", f"triton://127.0.0.1:{another.port}"])
    assert another.http.post(URL, content=json.dumps(body())).status_code == 200
    answer = front.http.post(URL, content=json.dumps(body()))
    assert (answer.status_code, answer.json()["code"]) == (503, "broken_bundle")
    assert "is not the network of" in answer.json()["error"]
    job = front.client().wait(front.client().submit(job_request("common", "main", fresh=True)).id)
    assert (job.state, job.error and job.error.code) == ("failed", "broken_bundle")


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["main", "d1-1-1"])
def test_a_server_that_names_no_bundle_is_compared_with_the_stored_answers(
    server: Running, another: Running, exported: Path, spec: str
) -> None:
    bundle = open_bundle(exported / "tiny" / "common")
    images = bundle.experiment.normalise(bundle.experiment.evaluation[0][:2])
    for running, right in ((server, True), (another, False)):
        config = WorkerConfig(device="cpu", threads=1, engines=1, keep_bytes=1 << 20, url=running.url)
        engine = EngineCache(config).open(bundle_ref(bundle))
        assert isinstance(engine, RemoteEngine)
        # as a Triton server, which knows no bundles
        engine._http.event_hooks["response"] = [lambda answer: answer.headers.pop(BUNDLE_HEADER, None)]
        if right:
            assert engine.logits(bundle.topology.parse(spec), images).shape == (2, 5)
        else:
            with pytest.raises(BundleError, match="is not the network of"):
                engine.logits(bundle.topology.parse(spec), images)


def test_a_token_that_no_header_carries_ends_the_start(exported: Path) -> None:
    words = [sys.executable, "-m", "stimcore.serve", str(exported), "--port", "0", "--engine", "triton://127.0.0.1:9"]
    environment = os.environ | {ENGINE_TOKEN_VARIABLE: "geheimni\u00df-und-lang"}
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"{ENGINE_TOKEN_VARIABLE} holds white space or characters outside of ASCII" in ended.stderr
    assert "Traceback" not in ended.stderr
