"""Routes under /v2 with NVIDIA's unmodified client for Triton; every number is compared with the engine's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray

from stimcore.bundle import Bundle, open_bundle
from stimcore.engine.engine import Engine
from tests.serve.conftest import Start
from tests.serve.processes import Running

COMMON = "tiny.common"
ESCAPES = (
    "../escaped",
    "../../escaped",
    "1/../../../escaped",
    "/tmp/stimcore-escaped",
    "link/escaped",
    "tiny/link/escaped",
    "x" * 256,
)
"""Files that a load would have to write outside of its model's folder, relatively, absolutely and by a symbolic link."""


@pytest.fixture(scope="module")
def bundle(exported: Path) -> Bundle:
    return open_bundle(exported / "tiny" / "common")


@pytest.fixture(scope="module")
def images(bundle: Bundle) -> NDArray[np.float32]:
    return bundle.experiment.normalise(bundle.experiment.evaluation[0][:7])


@pytest.fixture(scope="module")
def expected(bundle: Bundle, images: NDArray[np.float32]) -> Any:
    engine = Engine(bundle, device="cpu", threads=1)
    return lambda text, **more: engine.logits(bundle.topology.parse(text), images, **more)


@pytest.fixture
def client(server: Running) -> Any:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


def asked(images: NDArray[np.float32], *, binary: bool = True) -> Any:
    tensor = triton.InferInput("images", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images, binary_data=binary)
    return tensor


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(COMMON)
    assert client.is_model_ready(COMMON, "1")
    assert not client.is_model_ready("tiny.nothing")
    assert not client.is_model_ready(COMMON, "2")
    server = client.get_server_metadata()
    assert {"binary_tensor_data", "model_repository", "statistics", "model_configuration"} <= set(server["extensions"])
    model = client.get_model_metadata(COMMON)
    assert model["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [-1, 1, 12, 12]}]
    assert model["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 5]}]
    config = client.get_model_config(COMMON)
    assert config["input"] == [{"name": "images", "data_type": "TYPE_FP32", "dims": [1, 12, 12]}]
    assert config["max_batch_size"] == 1024


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("spec", ["main", "d1-1-1", "1-3.4-5-6.7-8-9", "2-1-3.4-6-5.7-9-8"])
def test_inference_is_the_engines(
    client: Any, images: NDArray[np.float32], expected: Any, spec: str, binary_in: bool, binary_out: bool | None
) -> None:
    outputs = None if binary_out is None else [triton.InferRequestedOutput("logits", binary_data=binary_out)]
    answer = client.infer(
        COMMON, [asked(images, binary=binary_in)], outputs=outputs, request_id="r-1", parameters={"spec": spec}
    )
    np.testing.assert_allclose(answer.as_numpy("logits"), expected(spec), rtol=1e-5, atol=1e-5)
    assert answer.get_response()["id"] == "r-1"
    assert answer.get_response()["model_name"] == COMMON


def test_recalibration_can_be_switched_off(client: Any, images: NDArray[np.float32], expected: Any) -> None:
    answer = client.infer(COMMON, [asked(images)], parameters={"spec": "d1-2-1", "recalibrate": False})
    off, on = expected("d1-2-1", recalibrate=False), expected("d1-2-1")
    np.testing.assert_allclose(answer.as_numpy("logits"), off, rtol=1e-5, atol=1e-5)
    assert np.abs(off - on).max() > 1e-3


def test_listed_files_have_their_own_names(client: Any, images: NDArray[np.float32], expected: Any) -> None:
    answer = client.infer(f"{COMMON}.subnet-d2-1-3", [asked(images)])
    np.testing.assert_allclose(answer.as_numpy("logits"), expected("d2-1-3"), rtol=1e-5, atol=1e-5)
    with pytest.raises(triton.InferenceServerException, match="parameter spec"):
        client.infer(f"{COMMON}.subnet-d2-1-3", [asked(images)], parameters={"spec": "d1-1-1"})


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests(client: Any, images: NDArray[np.float32], expected: Any, algorithm: str) -> None:
    answer = client.infer(
        COMMON, [asked(images)], request_compression_algorithm=algorithm, response_compression_algorithm=algorithm
    )
    np.testing.assert_allclose(answer.as_numpy("logits"), expected("main"), rtol=1e-5, atol=1e-5)


def test_many_at_once_through_the_async_interface(server: Running, images: NDArray[np.float32], expected: Any) -> None:
    specs = ["main", "d1-1-1", "d2-2-2", "d3-1-1"] * 5
    # A connection for each request. On fewer, a request waits until the result of an earlier one has been taken: that would not
    # be many at once, and never ends when the client sends them in another order than that in which results are taken here.
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=len(specs)) as client:
        waiting = [client.async_infer(COMMON, [asked(images)], parameters={"spec": spec}) for spec in specs]
        for spec, handle in zip(specs, waiting, strict=True):
            np.testing.assert_allclose(handle.get_result().as_numpy("logits"), expected(spec), rtol=1e-5, atol=1e-5)


def test_statistics_count(client: Any, images: NDArray[np.float32]) -> None:
    name = "tiny.stimulative.subnet-d2-1-3"
    (before,) = client.get_inference_statistics(name)["model_stats"]
    for _ in range(3):
        client.infer(name, [asked(images)])
    with pytest.raises(triton.InferenceServerException):
        client.infer(name, [asked(images)], parameters={"spec": "d9-9-9"})
    (after,) = client.get_inference_statistics(name)["model_stats"]
    assert after["inference_count"] - before["inference_count"] == 21
    assert after["execution_count"] - before["execution_count"] == 3
    stats = after["inference_stats"]
    assert stats["success"]["count"] - before["inference_stats"]["success"]["count"] == 3
    assert stats["fail"]["count"] - before["inference_stats"]["fail"]["count"] == 1
    assert 0 < stats["compute_infer"]["ns"] < stats["success"]["ns"]
    everything = client.get_inference_statistics()["model_stats"]
    assert {row["name"] for row in everything} >= {COMMON, f"{COMMON}.main", "tiny.stimulative"}


def counts(client: Any, name: str) -> tuple[int, int, int]:
    """Return the images that a model has inferred, its inferences that succeeded, and those that failed."""
    (stats,) = client.get_inference_statistics(name)["model_stats"]
    assert stats["name"] == name
    return stats["inference_count"], stats["execution_count"], stats["inference_stats"]["fail"]["count"]


def test_every_name_of_a_model_leads_to_the_same_statistics(start: Start, images: NDArray[np.float32]) -> None:
    """The limit is on labels in the metrics: which models have statistics does not depend on it."""
    server = start(limits=["model_labels=1"])
    names = [f"{COMMON}.subnet-d1-1-1", f"{COMMON}.d1-1-1"]  # the second as in a Triton repository
    others = ["tiny.stimulative", f"{COMMON}.main"]
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        for name in (*names, *others):
            assert client.infer(name, [asked(images)]).get_response()["model_name"] == name
        with pytest.raises(triton.InferenceServerException, match=f"'{names[1]}' with the parameter spec"):
            client.infer(names[1], [asked(images)], parameters={"spec": "main"})
        with pytest.raises(triton.InferenceServerException, match="unknown model"):
            client.infer("tiny.unheard-of", [asked(images)])
        assert [counts(client, name) for name in names] == [(14, 2, 1)] * 2
        assert [counts(client, name) for name in others] == [(7, 1, 0)] * 2
        rows = {row["name"]: row["inference_count"] for row in client.get_inference_statistics()["model_stats"]}
        assert {name: count for name, count in rows.items() if count} == {names[0]: 14, others[0]: 7, others[1]: 7}
    text = server.http.get("/metrics").text
    assert f'stim_inferences_total{{model="{names[0]}",result="done"}} 2.0' in text
    assert 'stim_inferences_total{model="other",result="done"} 2.0' in text
    assert 'stim_inferences_total{model="other",result="refused"} 1.0' in text


def test_priority_and_timeout_of_tritonclient(client: Any, images: NDArray[np.float32], expected: Any) -> None:
    for words in ({"priority": 1}, {"priority": 2}, {"timeout": 9_000_000}, {"priority": 2, "timeout": 30_000_000}):
        np.testing.assert_allclose(
            client.infer(COMMON, [asked(images)], **words).as_numpy("logits"), expected("main"), rtol=1e-5, atol=1e-5
        )
    for words, match in (
        ({"priority": 7}, "priority is 7"),
        ({"timeout": 10**9}, "timeout is"),
        ({"sequence_id": 4}, "sequence_"),
    ):
        with pytest.raises(triton.InferenceServerException, match=match):
            client.infer(COMMON, [asked(images)], **words)


def everything_under(folder: Path) -> dict[str, tuple[int, int]]:
    paths = [path for path in folder.rglob("*") if path.suffix != ".log"]
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths}


def test_repository(start: Start, own_exported: Path, images: NDArray[np.float32]) -> None:
    server = start(own_exported)
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        names = {row["name"] for row in client.get_model_repository_index()}
        assert {COMMON, f"{COMMON}.main", f"{COMMON}.subnet-d1-1-1", "tiny.stimulative"} <= names
        client.unload_model(COMMON)
        assert not client.is_model_ready(COMMON)
        states = {row["name"]: row["state"] for row in client.get_model_repository_index()}
        assert states[COMMON] == "UNAVAILABLE"
        assert states[f"{COMMON}.main"] == "READY"
        with pytest.raises(triton.InferenceServerException, match="was unloaded"):
            client.infer(COMMON, [asked(images)])
        client.load_model(COMMON)
        client.infer(COMMON, [asked(images)])
        (own_exported / "tiny" / "link").symlink_to(own_exported.parent)
        before = everything_under(own_exported.parent)
        refused_loads: list[dict[str, Any]] = [
            {"config": json.dumps({"backend": "python"})},
            {"config": "{}", "files": {"file:1/model.onnx": b"x"}},
            *({"config": "{}", "files": {f"file:{path}": b"x"}} for path in ESCAPES),
        ]
        for words in refused_loads:
            with pytest.raises(triton.InferenceServerException, match=r"\[400\] .*never uploaded"):
                client.load_model(COMMON, **words)
        assert client.is_model_ready(COMMON)
        assert everything_under(own_exported.parent) == before, "nothing was written"
        with pytest.raises(triton.InferenceServerException, match="unknown model"):
            client.load_model("tiny.unheard-of")
        weights = own_exported / "tiny" / "common" / "weights.bin"
        data = bytearray(weights.read_bytes())
        data[len(data) // 2] ^= 1
        weights.write_bytes(data)
        with pytest.raises(triton.InferenceServerException, match="sha256 differs"):
            client.load_model(COMMON)
        client.infer(COMMON, [asked(images)])  # what was opened before is still served
        client.infer("tiny.stimulative", [asked(images)])
