"""Routes under /v1 for bundles, specs, networks, images and runs, through the client."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

from stimcore.bundle import open_bundle
from stimcore.engine.engine import Engine
from stimcore.errors import SpecError, UsageError
from stimcore.serve import types
from stimcore.serve.client.client import Client
from stimcore.serve.errors import NotFound, TooLarge
from tests.report import folders as report_folders
from tests.serve.conftest import Start
from tests.serve.processes import Running


@pytest.fixture
def client(server: Running) -> Client:
    return server.client()


def test_the_catalogue_describes_every_bundle(client: Client, exported: Path) -> None:
    catalogue = client.catalogue()
    (experiment,) = catalogue.experiments
    assert catalogue.problems == []
    assert (experiment.name, experiment.image_shape, len(experiment.classes)) == ("tiny", (1, 12, 12), 5)
    assert (experiment.evaluation_images, experiment.calibration_images) == (300, 320)
    assert [method.name for method in experiment.methods] == ["common", "stimulative"]
    for method in experiment.methods:
        bundle = open_bundle(exported / "tiny" / method.name)
        assert method.fingerprint == bundle.fingerprint
        assert method.main.correct == bundle.main.correct
        assert method.num_networks == 4
        assert method.topology == bundle.topology.to_dict() == experiment.topology
    without, with_sweep = experiment.methods
    assert (without.sweeps, with_sweep.sweeps) == ([], ["ordered"])
    assert without.main.ce_nats is None
    assert with_sweep.main.ce_nats is not None


def test_status_names_what_runs_and_the_limits_of_images(client: Client) -> None:
    status = client.status()
    assert status.ready
    assert status.provider == "CPUExecutionProvider"
    assert status.versions["onnxruntime"] == ort.__version__
    assert (status.image_bytes, status.image_pixels) == (2_000_000, 20_000_000)


def test_specs_are_checked_with_reasons(client: Client) -> None:
    good = client.check_spec("tiny", " d1-2-3 ")
    assert (good.valid, good.spec, good.short, good.kind) == (True, "1.4-5.7-8-9", "d1-2-3", "ordered")
    assert client.check_spec("tiny", "1-2-3.4-5-6.7-8-9", "common").kind == "main"
    assert client.check_spec("tiny", "2-1-3.4-5-6.7-9").kind == "delete+permute"
    bad = client.check_spec("tiny", "1-2-3.5-6.7-8-9")
    assert not bad.valid
    assert "block 4 can't be deleted" in bad.reason
    assert bad.spec == ""


def test_training_sweeps_networks(client: Client, exported: Path) -> None:
    assert client.training("tiny", "common") == [{"epoch": 1, "losses": {"loss": 1.5}}]
    assert client.sweep("tiny", "common", "ordered") is None
    sweep = client.sweep("tiny", "stimulative", "ordered")
    assert sweep is not None
    assert sweep.to_dict() == json.loads((exported / "tiny" / "stimulative" / "sweep-ordered.json").read_text())
    with pytest.raises(NotFound, match="no family '..main'"):
        client.sweep("tiny", "common", "..main")
    with pytest.raises(NotFound, match="nothing at"):
        client.sweep("tiny", "common", "../main")
    networks = client.networks("tiny", "common")
    entries = open_bundle(exported / "tiny" / "common").manifest.networks
    assert {network.file: network.sha256 for network in networks.networks} == {n: e.sha256 for n, e in entries.items()}
    assert networks.latency_on == {}


def test_hits_are_those_of_the_bundle_and_add_up_to_its_counts(client: Client, exported: Path) -> None:
    bundle = open_bundle(exported / "tiny" / "stimulative")
    hits = client.hits("tiny", "stimulative")
    assert hits is not None
    assert bundle.all_hits is not None
    assert set(hits.packed) == set(bundle.all_hits.packed)
    main = hits.of(bundle.topology.full)
    assert main is not None
    assert int(main.sum()) == bundle.main.correct
    assert [method.hits for method in client.catalogue().experiments[0].methods] == [True, True]


def test_every_response_of_a_bundle_names_it(server: Running, client: Client) -> None:
    method = next(each for each in client.catalogue().experiments[0].methods if each.name == "stimulative")
    paths = [path for path in server.http.get("/openapi.json").json()["paths"] if "{method}" in path]
    assert len(paths) >= 6
    for path in paths:
        filled = path.format(experiment="tiny", method=method.name, kind="ordered")
        answer = server.http.get(filled, params={"spec": "d1-1-1"})
        assert (answer.status_code, answer.headers.get("X-Stimcore-Bundle")) == (200, method.fingerprint), path


def test_every_other_response_about_a_bundle_names_it_too(server: Running, client: Client) -> None:
    method = next(each for each in client.catalogue().experiments[0].methods if each.name == "stimulative")
    started = server.http.post("/v1/jobs", json={"experiment": "tiny", "method": "stimulative", "specs": ["d1-1-1"]})
    models = [f"/v2/models/tiny.stimulative{rest}" for rest in ("", "/ready", "/config", "/stats")]
    for path in (
        f"/v1/jobs/{started.json()['id']}/events",
        "/v1/experiments/tiny/spec?text=main&method=stimulative",
        *models,
    ):
        assert server.http.get(path).headers.get("X-Stimcore-Bundle") == method.fingerprint, path
    either = {each.fingerprint for each in client.catalogue().experiments[0].methods}
    for path in ("/v1/experiments/tiny/samples", "/v1/experiments/tiny/wall"):  # images are those of all methods
        assert server.http.get(path).headers.get("X-Stimcore-Bundle") in either, path


@pytest.mark.parametrize("count", [0, 65])
def test_too_few_is_another_refusal_than_too_many(server: Running, count: int) -> None:
    asked = {"method": "common", "index": 0, "specs": ["main"] * count}
    answer = server.http.post("/v1/experiments/tiny/classify", json=asked)
    assert (answer.status_code, answer.json()["code"]) == ((413, "too_large") if count else (400, "usage"))


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"max_images": "5"}, "max_images: Input should be a valid integer."),
        (
            {"recalibrate": 1, "specs": [1]},
            "specs: Value error, item 0 is no text; recalibrate: Input should be a valid boolean.",
        ),
        (
            {"specs": None},
            "specs: Field required; allowed: experiment, method, specs, recalibrate, max_images, fresh, interactive.",
        ),
    ],
)
def test_a_body_is_refused_with_what_is_allowed(server: Running, body: dict[str, object], sentence: str) -> None:
    value = {"experiment": "tiny", "method": "common", "specs": ["main"], **body}
    answer = server.http.post("/v1/jobs", json={key: item for key, item in value.items() if item is not None})
    assert (answer.status_code, answer.json()["error"]) == (400, sentence)


def test_a_bundle_of_version_1_has_no_hits(start: Start, tmp_path: Path) -> None:
    folder = report_folders.experiment(tmp_path / "old" / "made")
    report_folders.bundle(folder, "common", 900)
    client = start(folder.parent).client()
    assert [method.hits for method in client.catalogue().experiments[0].methods] == [False]
    assert client.hits("made", "common") is None


def test_a_downloaded_network_stands_alone(client: Client, exported: Path) -> None:
    bundle = open_bundle(exported / "tiny" / "common")
    images = bundle.experiment.normalise(bundle.experiment.evaluation[0][:20])
    session = ort.InferenceSession(client.onnx("tiny", "common", "2-1-3.4-5-6.7-8"), providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"images": images})[0]
    expected = Engine(bundle, device="cpu", threads=1).logits(bundle.topology.parse("2-1-3.4-5-6.7-8"), images)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(SpecError):
        client.onnx("tiny", "common", "d0-0-0")


def test_samples_are_evaluation_images(client: Client, exported: Path) -> None:
    bundle = open_bundle(exported / "tiny" / "common")
    pixels, labels = bundle.experiment.evaluation
    samples = client.samples("tiny", 9, seed=3)
    assert len({sample.index for sample in samples}) == 9
    assert samples == client.samples("tiny", 9, seed=3) != client.samples("tiny", 9, seed=4)
    for sample in samples:
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(sample.png_base64))))
        assert np.array_equal(image, pixels[sample.index][0])
        assert sample.label_name == bundle.experiment.classes[labels[sample.index]]
    with pytest.raises(TooLarge):
        client.samples("tiny", 65, seed=0)
    with pytest.raises(UsageError):
        client.samples("tiny", 0, seed=0)


def encoded(image: Image.Image, kind: str = "PNG") -> str:
    out = io.BytesIO()
    image.save(out, kind)
    return base64.b64encode(out.getvalue()).decode()


def test_classification_of_an_evaluation_image(client: Client, exported: Path) -> None:
    bundle = open_bundle(exported / "tiny" / "common")
    answer = client.classify("tiny", types.ClassifyRequest(method="common", specs=["main", "d1-1-1"], index=5))
    images = bundle.experiment.normalise(bundle.experiment.evaluation[0][5:6])
    engine = Engine(bundle, device="cpu", threads=1)
    for result in answer.results:
        logits = engine.logits(bundle.topology.parse(result.spec), images)[0].astype(np.float64)
        shares = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(result.probabilities, shares, atol=1e-5)
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.png_base64))))
    lines = base64.encodebytes(base64.b64decode(answer.png_base64)).decode()
    assert lines.count("\n") > 1
    same = client.classify("tiny", types.ClassifyRequest(method="common", specs=["main", "d1-1-1"], image_base64=lines))
    assert np.array_equal(seen, bundle.experiment.evaluation[0][5, 0])
    np.testing.assert_allclose(same.results[0].probabilities, answer.results[0].probabilities, atol=1e-6)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "LA", "1", "I;16"])
def test_any_png_is_read(client: Client, mode: str) -> None:
    image = Image.new(mode, (90, 31))
    answer = client.classify("tiny", types.ClassifyRequest(method="common", specs=["main"], image_base64=encoded(image)))
    assert sum(answer.results[0].probabilities) == pytest.approx(1)


def test_pictures_are_prepared_as_the_evaluation_does(client: Client, exported: Path) -> None:
    """Sixteen bits, a telephone's turn, the aspect of a photograph, the first frame of an animation."""
    steps = open_bundle(exported / "tiny" / "common").experiment.preprocessing
    generator = np.random.default_rng(0)
    photograph = Image.fromarray(generator.integers(0, 256, (48, 64, 3), dtype=np.uint8)).resize((640, 480))
    exif = Image.Exif()
    exif[0x0112] = 6
    files: dict[str, bytes] = {}
    for name, image, kind, options in (
        ("wide", photograph, "JPEG", {}),
        ("turned", photograph, "JPEG", {"exif": exif}),
        ("16 bits", Image.fromarray(generator.integers(256, 65536, (60, 60), dtype=np.uint16)), "PNG", {}),
        ("animated", photograph, "PNG", {"save_all": True, "append_images": [Image.new("RGB", photograph.size, "white")]}),
        ("CMYK", photograph.convert("CMYK"), "JPEG", {}),
    ):
        out = io.BytesIO()
        image.save(out, kind, **options)
        files[name] = out.getvalue()
    assert catalogue_steps(client) == steps.to_dict()
    for name, data in files.items():
        request = types.ClassifyRequest(method="common", specs=["main"], image_base64=base64.b64encode(data).decode())
        seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(client.classify("tiny", request).png_base64))))
        with Image.open(io.BytesIO(data)) as picture:
            np.testing.assert_array_equal(seen, steps.read(picture)[0], err_msg=name)


def catalogue_steps(client: Client) -> dict[str, object]:
    """Return the preprocessing of the experiment that the catalogue has."""
    (experiment,) = client.catalogue().experiments
    return dict(experiment.preprocessing)


def test_bad_images_are_refused(client: Client) -> None:
    def refused(kind: type[Exception], match: str, **given: object) -> None:
        with pytest.raises(kind, match=match):
            client.classify("tiny", types.ClassifyRequest.model_validate({"method": "common", "specs": ["main"], **given}))

    whole = encoded(Image.new("RGB", (64, 64)))
    refused(UsageError, "exactly one of both")
    refused(UsageError, "exactly one of both", index=1, image_base64=whole)
    refused(UsageError, "no evaluation image 300", index=300)
    refused(UsageError, "no evaluation image -1", index=-1)
    for text in ("%%%", f"data:image/png;base64,{whole}", "_w==", "-w=="):
        refused(UsageError, "is not base64; allowed: .* in base64 with . and /, without 'data:image/png", image_base64=text)
    refused(UsageError, "the image is a GIF file", image_base64=base64.b64encode(b"GIF89a, or so").decode())
    refused(UsageError, "the image is a GIF file", image_base64=encoded(Image.new("RGB", (64, 64)), "GIF"))
    refused(UsageError, "is damaged or incomplete", image_base64=base64.b64encode(base64.b64decode(whole)[:60]).decode())
    refused(TooLarge, "20,250,000|4,500 x 4,500", image_base64=encoded(Image.new("1", (4500, 4500))))
    refused(TooLarge, "far too many pixels|14,000", image_base64=encoded(Image.new("1", (14_000, 14_000))))
    refused(TooLarge, "2,000,001 bytes", image_base64=base64.b64encode(b"x" * 2_000_001).decode())
    refused(TooLarge, "65 specs", specs=["main"] * 65, index=0)
    refused(UsageError, "no specs were given", specs=[], index=0)


def test_runs_are_listed_and_half_written_ones_are_not(client: Client) -> None:
    runs = client.runs()
    assert {run.name for run in runs} == {"tiny/common-0", "tiny/stimulative-1"}
    assert all(run.epochs == 3 and len(run.rows) == 1 for run in runs)
