"""Bundles behind links: read where they lead to a place of the bundle, refused in one sentence everywhere else."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stimcore.bundle import check_hashes, open_bundle, scan
from stimcore.engine.engine import Engine
from stimcore.errors import BundleError
from stimcore.serve.repository.models import bundle_ref
from tests.bundle.test_opening import verify


def as_hub_cache(source: Path, root: Path) -> Path:
    """Lay an experiment out as the cache of the Hugging Face hub does; return the folder of experiments."""
    snapshot, blobs = root / "models--o--n" / "snapshots" / "5f1", root / "models--o--n" / "blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in source.rglob("*") if path.is_file())):
        link = snapshot / source.name / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blobs / f"{number:064x}")
        link.symlink_to(os.path.relpath(blobs / f"{number:064x}", link.parent))
    return snapshot


def as_volume(source: Path, root: Path) -> Path:
    """Lay an experiment out as a volume of Kubernetes: everything is a link through `..data`, which an update turns."""
    shutil.copytree(source, root / "..2026_11_28" / source.name)
    (root / "..data").symlink_to("..2026_11_28")
    (root / source.name).symlink_to(Path("..data") / source.name)
    return root


def as_volume_of_files(source: Path, root: Path) -> Path:
    """The same for a volume that is mounted as the experiment's folder, with a link for every file."""
    mount = root / source.name
    shutil.copytree(source, mount / "..2026_11_28")
    (mount / "..data").symlink_to("..2026_11_28")
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        link = mount / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(mount / "..data" / path.relative_to(source), link.parent))
    return root


def as_hard_links(source: Path, root: Path) -> Path:
    """Copy an experiment by hard links, as `cp -al` does."""
    shutil.copytree(source, root / source.name, copy_function=os.link)
    return root


def as_linked_folders(source: Path, root: Path) -> Path:
    """A folder of experiments whose entries lie on another disk."""
    shutil.copytree(source, root / "disk" / source.name)
    (root / "exported").mkdir()
    (root / "exported" / source.name).symlink_to(root / "disk" / source.name)
    return root / "exported"


def as_linked_methods(source: Path, root: Path) -> Path:
    """An experiment whose methods lie on another disk, without the experiment's own files."""
    shutil.copytree(source, root / "exported" / source.name)
    for manifest in sorted((root / "exported" / source.name).glob("*/manifest.json")):
        method = manifest.parent
        (root / "disk").mkdir(exist_ok=True)
        method.rename(root / "disk" / method.name)
        method.symlink_to(root / "disk" / method.name)
    return root / "exported"


LAYOUTS = [as_hub_cache, as_volume, as_volume_of_files, as_hard_links, as_linked_folders, as_linked_methods]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_bundle_behind_links_is_verified_listed_and_used(
    layout: Callable[[Path, Path], Path], experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = layout(experiment, tmp_path / "linked")
    bundles, problems = scan(folder)
    assert problems == []
    assert [bundle.method for bundle in bundles] == [bundle.method for bundle in scan(experiment.parent)[0]]
    bundle = open_bundle(Path(bundle_ref(bundles[0]).path))  # as a worker of the server does
    assert check_hashes(bundle) == check_hashes(open_bundle(experiment / bundle.method))
    engine = Engine(bundle, device="cpu", threads=1)
    images = bundle.experiment.normalise(bundle.experiment.evaluation[0][:2])
    assert engine.logits(bundle.topology.full, images).shape[0] == 2
    if layout is as_hub_cache:  # of the slow proof one is enough: it runs a network on all images
        code, text = verify(bundle.path, capsys)
        assert (code, "files are what was exported" in text) == (0, True)


def outside(path: Path, _other: Path) -> str:
    target = path.parents[3] / "outside" / path.name
    target.parent.mkdir()
    path.rename(target)
    path.symlink_to(target)
    return "is a link to"


def in_a_circle(path: Path, _other: Path) -> str:
    path.unlink()
    path.symlink_to(path.name)
    return "circle|levels of symbolic links"


def to_nothing(path: Path, _other: Path) -> str:
    path.unlink()
    path.symlink_to("nothing")
    return "is missing"


def a_pipe(path: Path, _other: Path) -> str:
    path.unlink()
    os.mkfifo(path)
    return "is not a regular file"


def a_folder(path: Path, _other: Path) -> str:
    path.unlink()
    path.mkdir()
    return "is missing"


def to_another_file(path: Path, other: Path) -> str:
    path.unlink()
    path.symlink_to(other.name)
    return "is not what was exported|is not JSON"


SPOILT = [outside, in_a_circle, to_nothing, a_pipe, a_folder, to_another_file]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a system with pipes in folders")
@pytest.mark.parametrize("name", ["weights.bin", "main.onnx", "manifest.json"])
@pytest.mark.parametrize("spoil", SPOILT)
def test_verify_and_the_catalogue_refuse_in_the_same_words(
    spoil: Callable[[Path, Path], str], name: str, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "manifest.json" and spoil is a_folder:
        pytest.skip("without a manifest it is no bundle, and nobody opens it")
    path = experiment / "common" / name
    expected = spoil(path, path.with_name("statistics.npz"))
    code, text = verify(experiment / "common", capsys)
    assert code == 1
    assert "Traceback" not in text
    messages = [problem.message for problem in scan(experiment.parent)[1] if problem.path.endswith("/common")]
    if spoil in (to_nothing, in_a_circle) and name == "manifest.json":
        assert "there is no bundle" in text or "circle" in text
        return
    assert len(messages) == 1
    assert text.strip() == f"error: {messages[0]}"
    assert any(word in text for word in expected.split("|")), text


def test_workers_open_a_volume_that_was_turned_to_the_same_bundle(experiment: Path, tmp_path: Path) -> None:
    """An update of the volume deletes the old folder; the server, which sees no change, kept its path."""
    folder = as_volume(experiment, tmp_path / "linked")
    bundle = scan(folder)[0][0]
    ref = bundle_ref(bundle)
    (folder / "..2026_11_28").rename(folder / "..2026_11_29")
    (folder / "..next").symlink_to("..2026_11_29")
    (folder / "..next").replace(folder / "..data")
    assert open_bundle(Path(ref.path)).fingerprint == bundle.fingerprint


def test_a_link_that_is_turned_after_the_check_is_noticed(experiment: Path, tmp_path: Path) -> None:
    folder = as_volume(experiment, tmp_path / "linked")
    bundle = scan(folder)[0][0]
    shutil.copytree(folder / "..2026_11_28", folder / "..2026_11_29")
    weights = folder / "..2026_11_29" / experiment.name / bundle.method / "weights.bin"
    weights.write_bytes(bytes(weights.stat().st_size))
    (folder / "..next").symlink_to("..2026_11_29")
    (folder / "..next").replace(folder / "..data")
    with pytest.raises(BundleError, match="is not what was exported"):
        bundle.read("weights.bin")
    with pytest.raises(BundleError, match="is not what was exported"):
        Engine(bundle, device="cpu", threads=1).logits(
            bundle.topology.full, bundle.experiment.normalise(bundle.experiment.evaluation[0][:1])
        )
