"""What an export writes besides numbers: descriptions inside the files, the manifest, names of folders, the picture wall."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import stimcore
from stimcore.bundle import Bundle, Hits, open_bundle
from stimcore.bundle.wall import choose_images
from stimcore.engine import walls
from stimcore.engine.walls import refresh_walls, wall_images
from stimcore.errors import UsageError
from stimcore.export.parity import FLOAT32, Parity
from stimcore.export.request import ExportRequest, bundle_name, prepare
from stimcore.export.standalone import write_standalone
from stimcore.runs.run import Run
from tests.bundles import GRAPHS


def properties(path: Path) -> dict[str, str]:
    """The metadata properties of an ONNX file."""
    return {item.key: item.value for item in onnx.load(str(path), load_external_data=False).metadata_props}


def run_dir(bundle: Bundle) -> Path:
    return bundle.experiment.path.parents[1] / "runs" / "small" / f"{bundle.method}-0"


def test_every_onnx_file_describes_itself(small: list[Bundle]) -> None:
    bundle = small[0]
    for name, entry in bundle.manifest.networks.items():
        model = onnx.load(str(bundle.path / name), load_external_data=False)
        short = bundle.topology.short(bundle.topology.parse(entry.spec))
        assert (model.producer_name, model.producer_version) == ("stimcore", stimcore.__version__)
        assert model.graph.name == f"resnet20 {short}"
        assert f"sub-network {short}" in model.doc_string
        stored = properties(bundle.path / name)
        assert stored["spec"] == entry.spec
        assert stored["network"] == "resnet20"
        assert json.loads(stored["classes"]) == list(bundle.experiment.classes)
        assert json.loads(stored["preprocessing"]) == bundle.experiment.preprocessing.to_dict()
        accuracy = json.loads(stored["accuracy"])
        assert (accuracy["correct"], accuracy["images"]) == (entry.correct, bundle.manifest.images)
        low, high = accuracy["interval_pct"]
        assert low < accuracy["accuracy_pct"] < high
        assert float(stored["parity"]) == pytest.approx(entry.parity, rel=1e-3)
        assert stored["checkpoint_sha256"] == bundle.manifest.checkpoint_sha256
        assert "data_licence" in stored


def test_standalone_files_describe_themselves_and_are_listed(small: list[Bundle], tmp_path: Path) -> None:
    path = Path(shutil.copytree(small[0].experiment.path, tmp_path / "small"))
    bundle = open_bundle(path / "common")
    unlisted = bundle.topology.parse("1-3.4-5-6.7-9")
    rows = write_standalone(bundle, [bundle.topology.full, unlisted])
    again = open_bundle(path / "common")
    assert again.fingerprint == bundle.fingerprint
    for row in rows:
        assert again.manifest.hashes[f"standalone/{row.file}"] == row.sha256
        stored = properties(again.path / "standalone" / row.file)
        assert stored["spec"] == row.spec
        assert json.loads(stored["accuracy"])["correct"] == row.correct
        assert stored["data_licence"] == (bundle.experiment.licence or "unknown")
        assert stored["optimiser"].startswith("onnxscript ")
    assert "standalone/index.json" in again.manifest.hashes


def test_the_manifest_names_what_made_it(small: list[Bundle]) -> None:
    manifest = small[1].manifest
    assert (manifest.name, manifest.method, manifest.seed) == ("stimulative", "stimulative", 1)
    assert manifest.exporter == f"stimcore {stimcore.__version__} ({GRAPHS})"
    assert set(manifest.versions) == {"onnx", "onnxruntime", "onnxscript", "torch", "numpy"}
    assert manifest.exits == []
    assert manifest.version == 2
    for entry in manifest.networks.values():
        assert (entry.check, entry.checked_images) == ("all", manifest.images)


def test_the_folder_has_the_name_and_the_seed_of_the_run(small: list[Bundle], tmp_path: Path) -> None:
    assert bundle_name("common", 0) == "common"
    experiment = Path(shutil.copytree(small[0].experiment.path, tmp_path / "small"))
    request = ExportRequest(run_dir=run_dir(small[1]), out=experiment, graphs=GRAPHS)
    assert prepare(request)[0].target == experiment / "stimulative-seed1"
    assert prepare(dataclasses.replace(request, name="other"))[0].target == experiment / "other"
    for name in (".hidden", "a/b", ".."):
        with pytest.raises(UsageError, match="a bundle named"):
            prepare(dataclasses.replace(request, name=name))
    named = Path(shutil.copytree(run_dir(small[1]), tmp_path / "named"))
    dataclasses.replace(Run.read(named), name="stimulative-lambda5", seed=2).write(named)
    assert prepare(dataclasses.replace(request, run_dir=named))[0].target == experiment / "stimulative-lambda5-seed2"


def test_an_experiment_of_version_1_is_not_exported_into(small: list[Bundle], tmp_path: Path) -> None:
    experiment = Path(shutil.copytree(small[0].experiment.path, tmp_path / "small"))
    path = experiment / "experiment.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    steps = value.pop("preprocessing")
    value |= {"version": 1, "mean": steps["mean"], "std": steps["std"], "image_shape": [3, 12, 12]}
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(UsageError, match=r"bundle migrate .* brings it to this version"):
        prepare(ExportRequest(run_dir=run_dir(small[0]), out=experiment))


def test_other_methods_follow_when_the_images_of_the_wall_change(
    small: list[Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = Path(shutil.copytree(small[0].experiment.path, tmp_path / "small"))
    shared = open_bundle(experiment / "common").experiment
    before = open_bundle(experiment / "common").wall
    assert before is not None
    assert before.images == wall_images(shared, {}) == choose_images(shared.evaluation[1])
    refresh_walls(shared)
    assert open_bundle(experiment / "common").wall == before
    others = tuple(image for image in range(30) if image not in before.images)[:5]
    monkeypatch.setattr(walls, "choose_images", lambda *_: others)
    refresh_walls(shared)
    labels = shared.evaluation[1]
    for method in ("common", "stimulative"):
        bundle = open_bundle(experiment / method)
        assert bundle.wall is not None
        assert bundle.wall.images == others
        for spec, answers in bundle.wall.states.items():
            hits = bundle.hits(spec)
            assert hits is not None
            right = np.array(answers.classes) == labels[list(others)]
            assert right.tolist() == hits[list(others)].tolist()


def test_hits_that_are_not_in_place_yet_decide_about_the_wall(small: list[Bundle]) -> None:
    """While a method is exported, its own hits are in memory."""
    shared, images = small[0].experiment, small[0].manifest.images
    given = {name: Hits(images, {}) for name in ("common", "stimulative")}
    assert wall_images(shared, given) == choose_images(shared.evaluation[1])


@pytest.mark.parametrize(
    ("parity", "words"),
    [
        (Parity(2e-4, 1.0), "differs from its reference by 2.0e-04"),
        (Parity(float("nan"), 1.0), "can't be compared with its reference: logits are not finite"),
        (Parity(0.0, 0.998), "agrees with its reference on 99.80% of the images"),
    ],
)
def test_the_parity_check_refuses(parity: Parity, words: str) -> None:
    complaint = parity.complaint("x.onnx", FLOAT32)
    assert complaint is not None
    assert complaint.startswith(f"x.onnx {words}")
    assert Parity(1e-5, 1.0).complaint("x.onnx", FLOAT32) is None
