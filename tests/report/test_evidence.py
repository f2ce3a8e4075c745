"""The committed evidence: files as exported, stored accuracies that come out again to the image, results.md not stale."""

import json
import os
import random
from pathlib import Path

import pytest

from stimcore.bundle import check_hashes, open_bundle, open_experiment
from stimcore.engine.engine import Engine
from stimcore.experiments.catalogue import ALIASES, PLANS
from stimcore.files import sha256
from stimcore.report import markdown
from stimcore.report.report import build_report
from stimcore.report.results import read_experiment
from stimcore.subnets.families import KINDS, family

ROOT = Path(__file__).parents[2]
EXPORTED, RESULTS = ROOT / "exported", ROOT / "docs" / "results.md"
BUNDLES = sorted(path.parent for path in EXPORTED.glob("*/*/manifest.json"))
SWEEPS = [(path, kind) for path in BUNDLES for kind in KINDS if (path / f"sweep-{kind}.json").exists()]
SEED = int(os.environ.get("STIMCORE_EVIDENCE_SEED", "0"))
"""Seed of the samples below: the same ones in every run, unless the variable asks for others."""
PER_BUNDLE = 1
"""Sub-networks of a bundle that are evaluated again."""
FIRST_IMAGES = 1000
"""Images of the sample that every run evaluates."""


def identity(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


@pytest.mark.parametrize("path", BUNDLES, ids=identity)
def test_bundle_is_what_was_exported(path: Path) -> None:
    assert check_hashes(open_bundle(path, verify=False)) >= 5


@pytest.mark.parametrize(("path", "kind"), SWEEPS, ids=lambda value: value if isinstance(value, str) else identity(value))
def test_sweep_is_the_whole_family_on_every_image(path: Path, kind: str) -> None:
    bundle = open_bundle(path, verify=False)
    stored = bundle.sweep(kind)
    assert stored is not None
    assert [row["spec"] for row in stored["results"]] == [str(spec) for spec in family(bundle.topology, kind)]
    assert {row["images"] for row in (stored["main"], *stored["results"])} == {bundle.manifest.images}
    assert stored["main"]["spec"] == str(bundle.topology.full)
    assert stored["main"]["correct"] == bundle.main.correct
    listed = {entry.spec: entry.correct for entry in bundle.manifest.networks.values()}
    for row in stored["results"]:
        assert listed.get(row["spec"], row["correct"]) == row["correct"]


def evaluated_again(path: Path, rng: random.Random) -> None:
    bundle = open_bundle(path, verify=False)
    stored = {row["spec"]: row for kind in bundle.sweeps for row in (bundle.sweep(kind) or {})["results"]}
    stored.pop(str(bundle.topology.full), None)
    chosen = [bundle.topology.parse(text) for text in rng.sample(sorted(stored), min(PER_BUNDLE, len(stored)))]
    *_, last = Engine(bundle, device="cpu", threads=2).evaluate(chosen)
    assert last.done
    assert last.results[bundle.topology.full].correct == bundle.main.correct
    for spec in chosen:
        result, row = last.results[spec], stored[str(spec)]
        assert (result.correct, result.images) == (row["correct"], row["images"]), f"{spec}, seed {SEED}"
        assert result.drop_pct == pytest.approx(row["drop_pct"], abs=1e-6), f"{spec}, seed {SEED}"
        assert result.ce_nats == pytest.approx(row["ce_nats"], rel=1e-3), f"{spec}, seed {SEED}"


def test_a_random_sample_comes_out_again_to_the_image() -> None:
    """One sub-network of one bundle, on its first images; `make slow` evaluates one of every bundle on all images."""
    swept = sorted({path for path, _ in SWEEPS})
    if not swept:
        pytest.skip("there is no swept bundle in exported/")
    rng = random.Random(SEED)
    bundle = open_bundle(rng.choice(swept), verify=False)
    counts = {row["spec"]: row["correct"] for kind in bundle.sweeps for row in (bundle.sweep(kind) or {})["results"]}
    hits = {text: row for text in sorted(counts) if (row := bundle.hits(bundle.topology.parse(text))) is not None}
    text = rng.choice(sorted(hits))
    spec = bundle.topology.parse(text)
    *_, last = Engine(bundle, device="cpu", threads=1).evaluate([spec], max_images=FIRST_IMAGES)
    assert hits[text].sum() == counts[text]
    assert (last.results[spec].correct, last.results[spec].images) == (hits[text][:FIRST_IMAGES].sum(), FIRST_IMAGES), text


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted({path for path, _ in SWEEPS}), ids=identity)
def test_a_random_sample_of_every_bundle_comes_out_again_to_the_image(path: Path) -> None:
    evaluated_again(path, random.Random(f"{SEED} {identity(path)}"))


def experiments() -> list[Path]:
    """Return the folders of all experiments in exported/, of whatever plan they are."""
    return sorted(path.parent for path in EXPORTED.glob("*/experiment.json"))


def test_results_are_not_stale() -> None:
    """docs/results.md is what the report writes from the experiments that are here; others keep their part."""
    here = experiments()
    if not here:
        pytest.skip("there is no experiment in exported/")
    before = RESULTS.read_text(encoding="utf-8")
    reports = [
        build_report(
            read_experiment(path),
            read_experiment(lambdas) if (lambdas := path.with_name(f"{path.name}-lambda")).is_dir() else None,
        )
        for path in here
    ]
    assert markdown.render_results(reports, before) == before, f"stale: run {markdown.COMMAND}"


def test_results_cover_what_is_committed() -> None:
    parts = markdown.parts(RESULTS.read_text(encoding="utf-8"))
    assert {path.name for path in experiments()} <= set(parts)
    assert set(parts) <= {markdown.SUMMARY, *PLANS, *ALIASES}


def committed() -> list[Path]:
    """Return the files of the experiments that a plan or an alias calls part of the project."""
    names = {name for name, plan in PLANS.items() if plan.committed} | set(ALIASES)
    return [path for name in sorted(names) for path in (EXPORTED / name).rglob("*") if path.is_file()]


def test_nothing_large_is_committed() -> None:
    """At most 100 MB together; git keeps equal files once, so they count once."""
    assert sum({sha256(path): path.stat().st_size for path in committed()}.values()) < 100e6
    for path in committed():
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))


def test_images_are_stored_once_per_data_set() -> None:
    """All experiments on one data set have the same image files, byte for byte: git stores each once.

    Calibration images are a part of the training images, so that those of a recipe that leaves most of these out are others.
    """
    stored: dict[tuple[str, ...], set[str]] = {}
    for folder in experiments():
        if folder.name in ALIASES or (folder.name in PLANS and PLANS[folder.name].committed):
            experiment = open_experiment(folder)
            recipe = open_bundle(folder / experiment.methods[0], verify=False).manifest.recipe or {}
            sample = str(recipe.get("train_per_class"))
            stored.setdefault((experiment.dataset, "evaluation"), set()).add(experiment.hashes["evaluation.npz"])
            stored.setdefault((experiment.dataset, "calibration", sample), set()).add(experiment.hashes["calibration.npz"])
    assert len(stored) >= 2
    assert {name: len(hashes) for name, hashes in stored.items()} == dict.fromkeys(stored, 1)
