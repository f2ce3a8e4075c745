"""The folder of a published page: its weight, its bytes, its refusals."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from stimcore.bundle import open_bundle
from stimcore.errors import UsageError
from stimcore.publish.__main__ import main
from stimcore.publish.choices import DEFAULT_IMAGES
from stimcore.publish.packing import packed_images
from stimcore.publish.site import CATALOGUE, PAGES, Settings, Site, build_site, evenly, scattered, weights

ROOT = Path(__file__).parents[2]
EXPERIMENT = ROOT / "exported" / "resnet20-fashion"
FIRST_VIEW_BYTES, COMPUTING_BYTES = 400_000, 3_000_000


def test_the_whole_experiment_is_light(site: Site) -> None:
    """First view, and all that is loaded until both methods have their numbers of all images of the default."""
    measured = {weight.what: weight.packed for weight in weights(site, EXPERIMENT.name, ["common", "stimulative"])}
    assert 0 < measured["first view"] <= FIRST_VIEW_BYTES
    experiment = open_bundle(EXPERIMENT / "common", verify=False).experiment
    pixels = experiment.evaluation[0][evenly(len(experiment.evaluation[1]), DEFAULT_IMAGES)]
    images = packed_images(np.concatenate([experiment.calibration, pixels]))
    assert measured["first view"] + measured["parts of the networks"] + len(images) <= COMPUTING_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.parent.name for path in (ROOT / "exported").glob("resnet20-*/experiment.json")))
def test_an_experiment_as_it_is_published_is_light(name: str) -> None:
    built = build_site([ROOT / "exported" / name], Settings())
    folders = list(json.loads(built.files[f"data/{name}/states.json"])["compared"])
    assert len(folders) == 2
    measured = {weight.what: weight.packed for weight in weights(built, name, folders)}
    print(name, measured)
    assert measured["first view"] <= FIRST_VIEW_BYTES
    assert sum(measured.values()) <= COMPUTING_BYTES


@pytest.mark.parametrize(("total", "count"), [(10_000, 2_000), (600, 300), (7, 9)])
def test_the_first_images_are_of_all_classes(total: int, count: int) -> None:
    """The images of a folder are sorted by class: 256 of them in a row would be of one or two."""
    index = evenly(total, count)[scattered(min(total, count))]
    assert sorted(index) == sorted(evenly(total, count))
    first = index[:256]
    by_tenth = [((first >= total * k / 10) & (first < total * (k + 1) / 10)).sum() for k in range(10)]
    assert max(by_tenth) - min(by_tenth) <= 2


def test_the_folder_names_no_other_host(site: Site) -> None:
    for path, content in site.files.items():
        if path.endswith((".html", ".css", ".js", ".json")) and not path.endswith("graphs.json"):
            addresses = set(re.findall(r"https?://[^'\"` )<]+", content.decode())) - {"http://www.w3.org/2000/svg"}
            assert not addresses, path
    assert "default-src 'none'" in site.files["index.html"].decode()
    assert {f"{folder}/index.html".lstrip("/") for folder in PAGES} <= set(site.files)


def test_what_is_no_site_is_not_replaced(site: Site, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="something else than a published page"):
        site.write(tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    small = Site({CATALOGUE: b"{}", "old": b""})
    small.write(tmp_path / "site")
    Site({CATALOGUE: b"{}"}).write(tmp_path / "site")
    assert not (tmp_path / "site" / "old").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "site"]


def test_two_publishers_of_one_folder_leave_one_whole_page(tmp_path: Path) -> None:
    sites = [Site({CATALOGUE: b"{}", **{f"{name}/{i}": name.encode() for i in range(100)}}) for name in "ab"]
    with ThreadPoolExecutor(2) as threads:
        for _ in range(5):
            list(threads.map(lambda site: site.write(tmp_path / "site"), sites))
            found = {
                path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*") if path.is_file()
            }
            assert found in [set(site.files) for site in sites]
            assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_page_that_could_not_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    Site({CATALOGUE: b"{}"}).write(tmp_path / "site")
    with pytest.raises(OSError, match="File name too long"):
        Site({CATALOGUE: b"{}", "x" * 300: b""}).write(tmp_path / "site")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [f"site/{CATALOGUE}"]
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_two_experiments_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="several experiments have the name resnet20-fashion"):
        build_site([EXPERIMENT, tmp_path / EXPERIMENT.name], Settings())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--experiment", "nothing"], "there is no experiment nothing"),
        (["--images", "0"], "--images 0"),
        (["--runtime", "nowhere.tgz"], "nowhere.tgz can't be read"),
    ],
)
def test_bad_options_are_refused_before_anything_is_built(arguments: list[str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=reason):
        main([str(EXPERIMENT), "--out", str(tmp_path / "site"), *arguments])
    assert not (tmp_path / "site").exists()


WITHOUT_TORCH = """
import runpy, sys
sys.modules["torch"] = None
runpy.run_module("stimcore.publish", run_name="__main__", alter_sys=True)
"""
"""The command where torch is not installed, as in the workflow of the documentation."""


@pytest.mark.slow
def test_equal_bytes_from_equal_bundles_and_options(tmp_path: Path) -> None:
    """Two processes, in which sets and dictionaries of the interpreter have other orders."""
    options = ["--experiment", "densenet-loafing", "--experiment", EXPERIMENT.name, "--title", "Klasse 9", "--lang", "fr"]
    for seed in ("1", "2"):
        arguments = ["exported", "--out", str(tmp_path / seed), "--images", "64", *options]
        command = [sys.executable, "-c", WITHOUT_TORCH, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "all of it without onnxruntime-web" in done.stdout
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in tmp_path.iterdir()
    )
    assert first == second
    catalogue = json.loads(first[Path(CATALOGUE)])
    assert sorted(catalogue["experiments"]) == ["densenet-loafing", EXPERIMENT.name]
    start = first[Path("index.html")].decode()
    assert '<html lang="fr">' in start
    assert "<title>Klasse 9</title>" in start
