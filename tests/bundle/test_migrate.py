"""An experiment of version 1 becomes version 2 without a run folder; every count stays."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest

from stimcore import cli, files
from stimcore.bundle import Bundle, Experiment, open_bundle, open_experiment
from stimcore.bundle import __main__ as command
from stimcore.bundle.integrity import files_below
from stimcore.errors import BundleError, UsageError
from stimcore.export import migrate
from stimcore.export.migrate import migrate_experiment
from stimcore.subnets.families import deletions
from stimcore.sweep.sweep import Settings, measured_sweep

COMMITTED = Path(__file__).parents[2] / "exported" / "resnet20-fashion"


def as_version_1(experiment: Path) -> None:
    """Write an experiment of version 2 as version 1 wrote it: other JSON, fewer hashes, no hits, no wall, no model card."""
    shared = open_experiment(experiment)
    value: dict[str, Any] = {
        "version": 1,
        "topology": shared.topology.to_dict(),
        "dataset": shared.dataset,
        "licence": shared.licence,
        "classes": shared.classes,
        "mean": shared.mean,
        "std": shared.std,
        "image_shape": shared.image_shape,
        "hashes": {name: sha256 for name, sha256 in shared.hashes.items() if name != "README.md"},
    }
    for method in shared.methods:
        path = experiment / method / "manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        for key in ("name", "exporter", "exits", "experiment_sha256"):
            del manifest[key]
        for entry in manifest["networks"].values():
            del entry["checked_images"], entry["check"]
        for name in ("hits.npz", "wall.json"):
            del manifest["hashes"][name]
            (path.parent / name).unlink()
        files.write_json(path, manifest | {"version": 1})
    (experiment / "README.md").unlink()
    files.write_json(experiment / "experiment.json", value)


def refused(*arguments: str) -> int:
    """Run `bundle` and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        cli.run(command.main, arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def counts(folder: Path) -> Mapping[str, int]:
    """The stored counts of a bundle: listed networks and sweeps."""
    bundle = open_bundle(folder)
    stored = {entry.spec: entry.correct for entry in bundle.manifest.networks.values()}
    for kind in bundle.sweeps:
        stored |= {f"{kind} {row['spec']}": row["correct"] for row in (bundle.sweep(kind) or {})["results"]}
    return stored


@pytest.fixture(scope="module")
def former(small: list[Bundle], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small experiment as version 1 wrote it, with a stored sweep of single deletions and one that is stale."""
    experiment = Path(shutil.copytree(small[0].experiment.path, tmp_path_factory.mktemp("former") / "small"))
    as_version_1(experiment)
    bundle = open_bundle(experiment / "common")
    swept, _ = measured_sweep(bundle, list(deletions(bundle.topology, 1)), "delete", Settings(device="cpu"))
    files.write_json(bundle.path / "sweep-delete.json", swept.to_dict())
    files.write_json(experiment / "stimulative" / "sweep-delete.json", swept.to_dict())
    return experiment


@pytest.fixture
def version1(former: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(former, tmp_path / "exported" / "small"))


@pytest.fixture
def one_method(version1: Path) -> Path:
    """The same without stimulative training."""
    shutil.rmtree(version1 / "stimulative")
    return version1


def test_migration_keeps_every_count(version1: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: (version1 / name).read_bytes() for name in files_below(version1)}
    old = open_bundle(version1 / "common")
    target = tmp_path / "new" / "small"
    assert command.main(["migrate", str(version1), "--out", str(target)]) == 0
    assert "stimulative/sweep-delete.json is left out" in capsys.readouterr().out
    assert {name: (version1 / name).read_bytes() for name in files_below(version1)} == before
    assert command.main(["verify", str(target)]) == 0
    assert "unverified" not in capsys.readouterr().out
    for method in ("common", "stimulative"):
        bundle = open_bundle(target / method)
        assert bundle.manifest.version == 2
        assert bundle.manifest.name is None
        assert bundle.manifest.exporter is None
        assert bundle.manifest.checkpoint_sha256 == open_bundle(version1 / method).manifest.checkpoint_sha256
        for entry in bundle.manifest.networks.values():
            spec = bundle.topology.parse(entry.spec)
            hits = bundle.hits(spec)
            assert hits is not None
            assert hits.sum() == entry.correct
            assert bundle.wall is not None
            assert spec in bundle.wall.states
    assert counts(target / "common") == counts(version1 / "common")
    bundle = open_bundle(target / "common")
    assert bundle.sweeps == ["delete"]
    assert (bundle.sweep("delete") or {})["bundle"] == bundle.fingerprint
    for spec in deletions(bundle.topology, 1):
        assert bundle.hits(spec) is not None
    assert (target / "common" / "weights.bin").read_bytes() == (version1 / "common" / "weights.bin").read_bytes()
    model = onnx.load(str(target / "common" / "main.onnx"), load_external_data=False)
    properties = {item.key: item.value for item in model.metadata_props}
    assert json.loads(properties["accuracy"])["correct"] == old.main.correct
    assert (target / "README.md").read_text(encoding="utf-8").startswith("# small\n")


def test_migration_in_place_replaces_the_experiment(one_method: Path) -> None:
    assert command.main(["migrate", str(one_method.parent)]) == 0
    assert open_experiment(one_method).version == 2
    assert open_bundle(one_method / "common").wall is not None
    assert [path.name for path in one_method.parent.iterdir()] == ["small"]
    assert refused("migrate", str(one_method)) == 2


def test_a_migration_that_was_stopped_between_its_renamings(one_method: Path) -> None:
    for asked in (one_method, one_method.parent):
        one_method.rename(one_method.with_name(".small.old"))
        if asked == one_method:
            assert command.main(["migrate", str(asked)]) == 0
        else:
            assert refused("migrate", str(asked)) == 2, "it is of version 2 already"
        assert open_bundle(one_method / "common").manifest.version == 2


def test_migrations_side_by_side_leave_each_other_alone(one_method: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Path(shutil.copytree(one_method, one_method.with_name("other")))
    build = migrate._build

    def build_beside(source: Experiment, folder: Path, report: migrate.Report) -> None:
        if source.path == one_method:
            build(source, folder, report)
            assert command.main(["migrate", str(other)]) == 0
            assert (folder / "experiment.json").exists()
        else:
            build(source, folder, report)

    monkeypatch.setattr(migrate, "_build", build_beside)
    assert command.main(["migrate", str(one_method)]) == 0
    assert {open_experiment(path).version for path in (one_method, other)} == {2}
    assert sorted(path.name for path in one_method.parent.iterdir()) == ["other", "small"]


def test_wrong_counts_end_the_migration(version1: Path, tmp_path: Path) -> None:
    """A manifest of version 1 is not hashed by anything, so that somebody may have improved it."""
    path = version1 / "common" / "manifest.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    value["networks"]["subnet-d1-1-1.onnx"]["correct"] += 10
    files.write_json(path, value)
    with pytest.raises(BundleError, match=r"1\.4\.7 of common gets .* images right here"):
        migrate_experiment(version1, tmp_path / "new" / "small", print)
    assert not (tmp_path / "new" / "small").exists()
    assert not list((tmp_path / "new").iterdir())


def test_an_existing_target_is_refused(version1: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="exists"):
        migrate_experiment(version1, tmp_path / "there", print)


def test_a_committed_bundle_migrates(tmp_path: Path) -> None:
    """A twin, because it is the smallest network; the command migrates whole experiments in the same way."""
    if open_experiment(COMMITTED).version > 1:
        pytest.skip("the committed bundles are of version 2 already")
    source = tmp_path / "old" / "resnet20-fashion"
    source.mkdir(parents=True)
    for name in ("experiment.json", "calibration.npz", "evaluation.npz"):
        os.link(COMMITTED / name, source / name)
    shutil.copytree(COMMITTED / "twin-d1-1-1", source / "twin-d1-1-1")
    target = migrate_experiment(source, tmp_path / "new" / "resnet20-fashion", print)
    assert counts(target / "twin-d1-1-1") == counts(source / "twin-d1-1-1")
    assert open_bundle(target / "twin-d1-1-1").manifest.spec == "1.4.7"


def test_options_of_the_other_command_are_refused(version1: Path) -> None:
    assert refused("verify", str(version1), "--out", "x") == 2
    assert refused("migrate", str(version1), "--seed", "1") == 2
    assert refused("migrate", str(version1 / "common")) == 1


def test_verify_lists_what_version_1_does_not_hash(version1: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["verify", str(version1 / "common")]) == 0
    assert "unverified, because version 1 stores no hash of them: sweep-delete.json" in capsys.readouterr().out
