"""Every file of a bundle is listed with its hash; what is parsed is what was hashed; versions and unknown keys."""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from stimcore import cli
from stimcore.bundle import Bundle, check_hashes, open_bundle, open_experiment, scan
from stimcore.bundle import __main__ as command
from stimcore.bundle.integrity import check_name, files_below
from stimcore.bundle.pictures import write_pictures
from stimcore.engine.engine import Engine
from stimcore.errors import BundleError, NoBundle, UsageError
from stimcore.export import latency
from stimcore.subnets.families import ordered
from stimcore.sweep.sweep import Settings, measured_sweep, store_sweep

FASHION = Path(__file__).parents[2] / "exported" / "resnet20-fashion"


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit a JSON file."""
    value = json.loads(path.read_text(encoding="utf-8"))
    edit(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def verify(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run `bundle verify`; return the exit code and what was printed."""
    with pytest.raises(SystemExit) as ended:
        cli.run(command.main, ["verify", str(folder), "--seed", "0"])
    assert isinstance(ended.value.code, int)
    printed = capsys.readouterr()
    return ended.value.code, printed.out + printed.err


def test_every_file_is_listed(experiment: Path) -> None:
    bundle = open_bundle(experiment / "common")
    assert files_below(bundle.path) == {"manifest.json", *bundle.manifest.file_hashes}
    assert {"README.md", "calibration.npz", "evaluation.npz"} == set(bundle.experiment.hashes)
    assert {"hits.npz", "wall.json", "weights.bin", "statistics.npz"} <= set(bundle.manifest.hashes)


def test_a_bit_flipped_in_any_listed_file_is_noticed(experiment: Path) -> None:
    bundle = open_bundle(experiment / "common")
    paths = [bundle.path / name for name in bundle.manifest.file_hashes]
    paths += [experiment / name for name in bundle.experiment.hashes]
    assert len(paths) == len(bundle.manifest.networks) + 4 + 3
    for path in paths:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(BundleError, match=f"{path.name} is not what was exported"):
            check_hashes(bundle)
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert check_hashes(bundle) == len(paths)


@pytest.mark.parametrize("key", ["classes", "preprocessing", "topology", "licence", "dataset"])
def test_another_experiment_json_is_noticed(experiment: Path, key: str) -> None:
    def edit(value: dict[str, Any]) -> None:
        if key == "classes":
            value["classes"].reverse()
        elif key == "preprocessing":
            value["preprocessing"]["mean"][0] += 0.1
        elif key == "topology":
            value["topology"]["network"] = "other"
        else:
            value[key] += "x"

    change(experiment / "experiment.json", edit)
    with pytest.raises(BundleError, match="its experiment.json has changed"):
        open_bundle(experiment / "common")


def test_a_file_that_is_not_listed_is_never_read(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sweep of dreamt-up accuracies that somebody puts beside a bundle."""
    shutil.copyfile(FASHION / "common" / "sweep-ordered.json", experiment / "common" / "sweep-ordered.json")
    bundle = open_bundle(experiment / "common")
    assert bundle.sweeps == []
    assert bundle.sweep("ordered") is None
    with pytest.raises(BundleError, match="not listed"):
        bundle.read("sweep-ordered.json")
    code, text = verify(experiment, capsys)
    assert code == 1
    assert "sweep-ordered.json is not part of the bundle" in text


@pytest.mark.parametrize("name", ["../other", "/etc/hostname", "a/../../b", ".hidden", "a/.b", "", "a//b", "c:d", "a\\b", "."])
def test_names_that_lead_elsewhere_are_refused(experiment: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of a file in this folder"):
        check_name(name)
    for folder, file in (("common", "manifest.json"), (".", "experiment.json")):
        path = experiment / folder / file
        before = path.read_bytes()
        change(path, lambda value: value["hashes"].update({name: "0" * 64}))
        with pytest.raises(BundleError, match="is not the name of a file"):
            open_bundle(experiment / "common", verify=False)
        path.write_bytes(before)


def test_a_manifest_without_hashes_is_refused(experiment: Path) -> None:
    change(experiment / "common" / "manifest.json", lambda value: value.update(hashes={}))
    with pytest.raises(BundleError, match="'hashes' of manifest.json is empty"):
        open_bundle(experiment / "common")


@pytest.mark.parametrize("file", ["common/manifest.json", "experiment.json"])
def test_a_newer_version_is_refused_in_one_sentence(experiment: Path, file: str) -> None:
    change(experiment / file, lambda value: value.update(version=3))
    with pytest.raises(BundleError, match=r"has version 3; allowed: 1 to 2\. A newer stimcore can open it\."):
        open_bundle(experiment / "common")


@pytest.mark.parametrize("version", [0, -1, "2", 2.0, True, None])
def test_other_versions_are_refused(experiment: Path, version: object) -> None:
    change(experiment / "common" / "manifest.json", lambda value: value.update(version=version))
    with pytest.raises(BundleError, match="has no version"):
        open_bundle(experiment / "common")


def test_unknown_keys_of_the_same_version_are_ignored(experiment: Path) -> None:
    before = open_bundle(experiment / "common")

    def extend(value: dict[str, Any]) -> None:
        value["colour"] = "green"
        for part in [*value.get("parts", []), *value.get("networks", {}).values()]:
            part["colour"] = "green"

    for file in ("common/manifest.json", "experiment.json"):
        change(experiment / file, extend)
    after = open_bundle(experiment / "common")
    assert after.fingerprint == before.fingerprint
    assert after.manifest == before.manifest


@pytest.mark.parametrize("key", ["method", "networks", "hashes", "images", "topology", "parts", "experiment_sha256"])
def test_a_missing_or_wrong_key_is_one_sentence(experiment: Path, key: str) -> None:
    path = experiment / "common" / "manifest.json"
    before = path.read_bytes()
    for edit in (lambda value: value.pop(key), lambda value: value.update({key: 5.5})):
        change(path, edit)
        with pytest.raises(BundleError, match="manifest.json does not fit the schema"):
            open_bundle(experiment / "common")
        path.write_bytes(before)


def test_names_that_begin_with_a_dot_are_never_opened(experiment: Path) -> None:
    """What a killed export leaves."""
    shutil.copytree(experiment / "common", experiment / ".common.old")
    shutil.copytree(experiment, experiment.parent / ".small.old")
    assert open_experiment(experiment).methods == ("common", "stimulative")
    bundles, problems = scan(experiment.parent)
    assert [bundle.path for bundle in bundles] == [experiment / "common", experiment / "stimulative"]
    assert problems == []
    with pytest.raises(BundleError, match="begins with a dot"):
        open_bundle(experiment / ".common.old")


def test_files_that_are_swapped_after_opening_give_an_error_never_a_number(experiment: Path) -> None:
    """Another export of the same names lies in the folder; what was opened before may not mix the two."""
    common, other = experiment / "common", experiment / "stimulative"
    bundle = open_bundle(common)
    engine = Engine(bundle, device="cpu", threads=1)
    spec = bundle.topology.ordered((2, 2, 2))
    listed = bundle.listed(spec)
    assert listed is not None
    for name in (listed, "hits.npz", "wall.json", "weights.bin", "main.onnx"):
        shutil.copyfile(other / name, common / name)
    with (common / "statistics.npz").open("ab") as handle:  # both networks have those of a fresh network
        handle.write(b"x")
    for use in (
        lambda: list(engine.evaluate([spec])),
        lambda: engine.logits(spec, bundle.experiment.normalise(bundle.experiment.evaluation[0][:2])),
        lambda: Engine(bundle, device="cpu", threads=1),
        lambda: bundle.hits(spec),
        lambda: bundle.wall,
        bundle.trained_statistics,
    ):
        with pytest.raises(BundleError, match="is not what was exported"):
            use()


def test_images_that_are_swapped_after_opening_are_noticed(experiment: Path) -> None:
    opened = open_experiment(experiment)
    shutil.copyfile(experiment / "calibration.npz", experiment / "evaluation.npz")
    with pytest.raises(BundleError, match=r"evaluation\.npz is not what was exported"):
        _ = opened.evaluation


def test_a_copy_with_hard_links_opens_and_later_exports_leave_it_alone(small: list[Bundle], tmp_path: Path) -> None:
    """`cp -al`: stored sweeps replace names in one copy, never bytes that both have."""
    source = Path(shutil.copytree(small[0].experiment.path, tmp_path / "a" / "small"))
    linked = Path(shutil.copytree(source, tmp_path / "b" / "small", copy_function=os.link))
    bundle = open_bundle(source / "common")
    specs = list(ordered(bundle.topology))[:3]
    store_sweep(bundle, *measured_sweep(bundle, [*specs, bundle.topology.full], "ordered", Settings(device="cpu")))
    assert open_bundle(source / "common").sweeps == ["ordered"]
    assert open_bundle(linked / "common").sweeps == []
    assert open_bundle(linked / "common").fingerprint == small[0].fingerprint
    assert Engine(open_bundle(linked / "common"), device="cpu", threads=1).provider == "CPUExecutionProvider"


def test_version_1_opens_as_before() -> None:
    """The fingerprint is the hash of the manifest's bytes, and stored sweeps name it."""
    bundle = open_bundle(FASHION / "stimulative")
    if bundle.manifest.version > 1:
        pytest.skip("the committed bundles are of version 2 already")
    assert bundle.fingerprint == hashlib.sha256((bundle.path / "manifest.json").read_bytes()).hexdigest()
    assert bundle.unverified == ["latency.json", "sweep-delete.json", "sweep-ordered.json", "sweep-permute.json"]
    assert (bundle.sweep("ordered") or {})["bundle"] == bundle.fingerprint
    assert bundle.hits(bundle.topology.full) is None
    assert bundle.wall is None
    assert bundle.experiment.image_shape == (1, 28, 28)
    assert {entry.check for entry in bundle.manifest.networks.values()} == {"all"}


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts[:7] + parts[8:],
        lambda parts: parts[:-1],
        lambda parts: [*parts, parts[3]],
        lambda parts: parts[::-1],
    ],
)
def test_parts_that_are_not_those_of_the_network_are_refused(
    experiment: Path, change: Callable[[list[object]], list[object]]
) -> None:
    """A part that is missing would be noticed only when a sub-network with it runs."""
    path = experiment / "common" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(manifest | {"parts": change(manifest["parts"])}), encoding="utf-8")
    with pytest.raises(BundleError, match=r"does not fit the schema: the parts are .*, not stem, block1, .*"):
        open_bundle(path.parent)


def stored_again(experiment: Path, name: str, content: bytes) -> None:
    """Write a file of the bundle `common` and the hash that belongs to it."""
    path, sha256 = experiment / "common" / name, hashlib.sha256(content).hexdigest()
    path.write_bytes(content)

    def rehash(value: dict[str, Any]) -> None:
        if name in value["networks"]:
            value["networks"][name]["sha256"] = sha256
        else:
            value["hashes"][name] = sha256

    change(experiment / "common" / "manifest.json", rehash)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("correct", 5, "says .*% for main.onnx, and 5 of .* images right: one of them is wrong"),
        ("accuracy_pct", 99.9, "says 99.9% for main.onnx"),
        ("accuracy_pct", 9999, "says 9999% for main.onnx"),
        ("spec", "9-9", "lists main.onnx as '9-9', which this network does not have"),
        ("spec", "1-2", "lists main.onnx as '1-2'.*allowed: '1-2-3.4-5-6.7-8-9'|lists main.onnx as '1-2'"),
    ],
)
def test_verify_refuses_a_manifest_that_contradicts_itself(
    experiment: Path, key: str, value: object, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(experiment / "common" / "manifest.json", lambda manifest: manifest["networks"]["main.onnx"].update({key: value}))
    code, text = verify(experiment, capsys)
    assert code == 1
    assert re.search(sentence, text), text
    assert len(text.strip().splitlines()) == 1


@pytest.mark.parametrize("where", ["manifest.json", "sweep-ordered.json"])
def test_verify_compares_hits_with_the_manifest_and_with_every_sweep(
    experiment: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The main network is in both, so that a wrong count in one of them must not hide behind the other."""
    bundle = open_bundle(experiment / "common")
    result, measured = measured_sweep(bundle, list(ordered(bundle.topology))[:3], "ordered", Settings(device="cpu"))
    store_sweep(bundle, result, measured)
    assert verify(experiment, capsys)[0] == 0
    images = bundle.manifest.images
    if where == "manifest.json":
        entry = {"correct": 5, "accuracy_pct": 500 / images}
        change(experiment / "common" / where, lambda value: value["networks"]["main.onnx"].update(entry))
    else:
        sweep = json.loads((bundle.path / where).read_text())
        sweep["main"]["correct"] = 5
        stored_again(experiment, where, json.dumps(sweep).encode())
    code, text = verify(experiment, capsys)
    assert (code, f"hits of {bundle.topology.full}, {where} says 5" in text) == (1, True), text


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        *(
            ("sweep-ordered.json", content, "sweep-ordered.json is not a sweep: ")
            for content in (b"{}", b"[]", b'{"results":[{}]}', b'{"results":5}', b"{", b"[" * 100_000)
        ),
        ("main.onnx", b"", "onnxruntime can't run .*main.onnx"),
        ("wall.json", b"[]", "wall.json can't be read"),
        ("statistics.npz", b"x", "statistics.npz can't be read"),
    ],
)
def test_verify_refuses_files_that_have_their_hash_and_are_something_else(
    experiment: Path,
    file: str,
    content: bytes,
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored_again(experiment, file, content)
    monkeypatch.setattr("random.Random.choice", lambda _self, _names: "main.onnx")
    code, text = verify(experiment / "common", capsys)
    assert code == 1
    assert re.search(sentence, text), text
    assert len(text.strip().splitlines()) == 1


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"latency_ms":{"main.onnx":{}}}', b'{"latency_ms":5}', b"{"])
def test_stored_times_that_are_none_are_refused_in_one_sentence(experiment: Path, content: bytes) -> None:
    stored_again(experiment, "latency.json", content)
    with pytest.raises(BundleError, match="does not hold the times of networks.*--latency' measures them again"):
        latency.read(open_bundle(experiment / "common"))


def test_a_wrong_path_is_named_as_what_it_is(experiment: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    (tmp_path / "file").write_text("")
    expected = {
        tmp_path / "nothing": f"there is no folder {tmp_path / 'nothing'}; allowed: a bundle",
        experiment / "nothing": f"there is no folder {experiment / 'nothing'}; allowed: a bundle",
        experiment: f"{experiment} is an experiment, not one of its methods; allowed: {experiment / 'common'}, ",
        tmp_path / "run": f"{tmp_path / 'run'} is a run folder, not a bundle",
        tmp_path / "file": f"{tmp_path / 'file'} is a file; allowed: a bundle",
        tmp_path: f"{tmp_path} is not a bundle: it has no manifest.json",
    }
    for path, sentence in expected.items():
        with pytest.raises(NoBundle) as error:
            open_bundle(path)
        assert str(error.value).startswith(sentence)
        assert error.value.exit_code == 2
    for line in (["verify"], ["migrate"], ["pictures", "--out", str(tmp_path / "out")]):
        with pytest.raises(NoBundle, match="there is no folder"):
            command.main([line[0], str(tmp_path / "nothing"), *line[1:]])
    with pytest.raises(NoBundle, match="is not an experiment"):
        command.main(["pictures", str(experiment / "common"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("exists", [True, False])
def test_pictures_that_could_not_be_written_leave_the_folder_as_it_was(
    small: list[Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    """Otherwise the command could not be repeated; one that is killed leaves no part of them under a new folder's name."""
    written: list[Path] = []
    if exists:
        (tmp_path / "out").mkdir()
    save = Image.Image.save

    def full(image: Image.Image, path: Path) -> None:
        if len(written) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        assert (tmp_path / "out").exists() == exists
        save(image, path)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(OSError, match="No space left"):
            write_pictures(small[0].experiment, tmp_path / "out")
    assert list(tmp_path.rglob("*")) == ([tmp_path / "out"] if exists else [])
    assert write_pictures(small[0].experiment, tmp_path / "out") == small[0].manifest.images


def test_an_export_of_a_wrong_path_is_named_as_what_it_is(experiment: Path, tmp_path: Path) -> None:
    from stimcore.export.__main__ import main as export

    for options in (["--out", str(tmp_path / "out")], ["--latency"]):
        with pytest.raises(UsageError, match="there is no folder .*nothing; allowed: a run folder, or a bundle"):
            export([str(tmp_path / "nothing"), *options])
        with pytest.raises(UsageError, match="is an experiment, not one of its methods; allowed: .*common"):
            export([str(experiment), *options])
