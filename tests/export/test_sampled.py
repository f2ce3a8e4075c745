"""Exports whose files are compared with torch on a sample of the images: counts come from the tree of prefixes."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from app.panels.budget import check_in_words
from stimcore.bundle import Bundle, FileEntry, open_bundle
from stimcore.bundle.__main__ import main as bundle_command
from stimcore.data.normalise import Normalisation
from stimcore.engine.engine import Engine
from stimcore.engine.inference import Progress
from stimcore.export.__main__ import parser
from stimcore.export.choices import CHECK_IMAGES
from stimcore.export.experiment import shared_experiment
from stimcore.export.exporter import Exporter
from stimcore.export.networks import CheckPlan
from stimcore.runs.trained_run import open_run
from stimcore.serve.repository.describe import networks_of
from tests.bundles import GRAPHS
from tests.export.test_exporter import run_dir

SAMPLE = 50


def exporter_of(bundle: Bundle, out: Path, plan: CheckPlan) -> Exporter:
    trained = open_run(run_dir(bundle))
    normalisation = Normalisation(trained.run.mean, trained.run.std)
    experiment = shared_experiment(out, trained.dataset(None), trained.net.topology, normalisation, twin=False)
    return Exporter(trained, experiment, "common", plan=plan, graphs=GRAPHS)


@pytest.fixture(scope="module")
def sampled(small: list[Bundle], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The first bundle of `small` again, exported with a sampled check."""
    exporter = exporter_of(small[0], tmp_path_factory.mktemp("sampled") / "small", CheckPlan(images=SAMPLE, jobs=2))
    specs = [small[0].topology.parse(entry.spec) for entry in small[0].manifest.networks.values()]
    assert exporter.export(specs) == []
    assert exporter.notes == []
    return open_bundle(exporter.target)


@pytest.mark.slow
def test_the_tree_counts_what_every_file_counts_on_all_images(small: list[Bundle], sampled: Bundle) -> None:
    assert list(sampled.manifest.networks) == list(small[0].manifest.networks)
    for name, entry in sampled.manifest.networks.items():
        verified = small[0].manifest.networks[name]
        assert (entry.correct, entry.accuracy_pct) == (verified.correct, verified.accuracy_pct)
        assert (entry.check, entry.checked_images, entry.correct_torch) == ("sampled", SAMPLE, None)
        assert (verified.check, verified.correct_torch) == ("all", verified.correct)
        assert entry.agreement == 1
        assert 0 < entry.parity <= 1e-4
    ours, theirs = sampled.all_hits, small[0].all_hits
    assert ours is not None
    assert theirs is not None
    assert ours.to_bytes() == theirs.to_bytes()


def test_everything_that_shows_a_check_says_sampled(
    small: list[Bundle], sampled: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    images = sampled.manifest.images
    assert bundle_command(["verify", str(sampled.path), "--seed", "0"]) == 0
    printed = capsys.readouterr().out
    assert f"27 networks sampled: compared with torch on {SAMPLE} of {images} images" in printed
    assert "verified against" not in printed
    card = (sampled.experiment.path / "README.md").read_text(encoding="utf-8")
    assert f"`common` on {SAMPLE} of {images} images" in card
    stored = onnx.load(str(sampled.path / "main.onnx"), load_external_data=False)
    assert {p.key: p.value for p in stored.metadata_props}["parity_images"] == str(SAMPLE)
    shown = networks_of(sampled).networks[0]
    assert (shown.correct_torch, shown.check, shown.checked_images) == (None, "sampled", SAMPLE)
    assert check_in_words(shown, images).startswith(f"Sampled: compared with PyTorch on {SAMPLE} of {images}")
    assert bundle_command(["verify", str(small[0].path), "--seed", "0"]) == 0
    assert f"27 networks verified against their reference on all {images} images" in capsys.readouterr().out
    assert "sampled" not in (small[0].experiment.path / "README.md").read_text(encoding="utf-8")


def test_a_bundle_that_was_checked_on_as_many_images_is_not_made_again(small: list[Bundle], sampled: Bundle) -> None:
    specs = [sampled.topology.parse(entry.spec) for entry in sampled.manifest.networks.values()]
    reported: list[str] = []
    out = sampled.experiment.path
    before = (sampled.path / "manifest.json").read_bytes()
    for images in (SAMPLE, SAMPLE - 1):
        exporter_of(small[0], out, CheckPlan(images=images)).export(specs, lambda _done, _total, line: reported.append(line))
    assert reported == ["already exported from the same checkpoint"] * 2
    assert (sampled.path / "manifest.json").read_bytes() == before


def fail(self: Engine, *_args: Any, **_options: Any) -> Iterator[Progress]:
    # what onnxruntime raises for a graph that it can't read
    ort.InferenceSession(b"no graph")
    yield from ()


def test_files_run_on_all_images_where_the_tree_cannot_run(
    small: list[Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "evaluate", fail)
    exporter = exporter_of(small[0], tmp_path / "small", CheckPlan(images=SAMPLE))
    exporter.export([small[0].topology.parse("d1-1-1")])
    entries = open_bundle(exporter.target).manifest.networks
    for name, entry in entries.items():
        assert (entry.correct, entry.check) == (small[0].manifest.networks[name].correct, "sampled")
        assert any(note.startswith(f"{name} ran on all 400 images: the tree of prefixes can't run") for note in exporter.notes)


def test_what_a_stopped_export_found_is_told_by_the_next(
    small: list[Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    specs = [small[0].topology.parse("d1-1-1")]
    first = exporter_of(small[0], tmp_path / "small", CheckPlan(images=SAMPLE))
    with monkeypatch.context() as broken:
        broken.setattr(Engine, "evaluate", fail)
        with pytest.raises(KeyboardInterrupt):
            first.export(specs, stop)
    again = exporter_of(small[0], tmp_path / "small", CheckPlan(images=SAMPLE))
    again.export(specs)
    (note,) = again.notes
    assert "ran on all 400 images: the tree of prefixes can't run" in note


def test_a_tree_that_answers_otherwise_than_a_file_does_not_count(
    small: list[Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = Engine.evaluate

    def wrong(self: Engine, *args: Any, **options: Any) -> Iterator[Progress]:
        for progress in evaluate(self, *args, **options):
            logits = {spec: np.roll(values, 1, axis=1) for spec, values in progress.logits.items()}
            yield replace(progress, logits=logits, hits={spec: ~hits for spec, hits in progress.hits.items()})

    monkeypatch.setattr(Engine, "evaluate", wrong)
    exporter = exporter_of(small[0], tmp_path / "small", CheckPlan(images=SAMPLE))
    exporter.export([])
    (entry,) = open_bundle(exporter.target).manifest.networks.values()
    assert entry.correct == small[0].main.correct
    (note,) = exporter.notes
    assert note.startswith("main.onnx ran on all 400 images: the tree of prefixes differs from it by ")


@pytest.mark.slow
def test_a_small_share_of_the_family_at_a_time_counts_the_same(
    small: list[Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The logits of a family of thousands would fill the memory: it is walked in shares."""
    monkeypatch.setattr("stimcore.export.networks.LOGIT_BYTES", 2 * 4 * SAMPLE * len(small[0].experiment.classes))
    exporter = exporter_of(small[0], tmp_path / "small", CheckPlan(images=SAMPLE))
    exporter.export([small[0].topology.parse(text) for text in ("d1-1-1", "d2-1-1", "d2-2-1")])
    entries = open_bundle(exporter.target).manifest.networks
    assert len(entries) == 4
    assert all(entry.correct == small[0].manifest.networks[name].correct for name, entry in entries.items())


@pytest.mark.parametrize("text", ["0", "-1", "some", "1.5", "", "1e3"])
def test_check_is_a_number_or_all(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parser().parse_args(["run", "--out", "out", "--check", text])
    assert end.value.code == 2
    assert "neither a number of images, 1 and more, nor 'all'" in capsys.readouterr().err


def test_the_default_is_a_sample() -> None:
    words = ["run", "--out", "out"]
    assert parser().parse_args(words).check == CHECK_IMAGES == 1000
    assert parser().parse_args([*words, "--check", "all"]).check is None
    with pytest.raises(ValueError, match="from 1"):
        CheckPlan(jobs=0)


def test_an_entry_without_a_count_of_torch_is_a_sampled_one(sampled: Bundle) -> None:
    manifest = json.loads((sampled.path / "manifest.json").read_text(encoding="utf-8"))
    value = manifest["networks"]["main.onnx"]
    assert value["correct_torch"] is None
    assert FileEntry.from_dict(value, "main.onnx", manifest["images"]) == sampled.main
    value |= {"checked_images": manifest["images"], "check": "all"}
    with pytest.raises(ValueError, match="has no 'correct_torch'"):
        FileEntry.from_dict(value, "main.onnx", manifest["images"])
