"""Recipes learn: their rate, batch size and lambda together, in 200 steps on real images."""

import dataclasses
import itertools
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from stimcore.bench import __main__ as bench
from stimcore.bench import smoke_page
from stimcore.bench.curves import striped_images
from stimcore.bench.smoke import as_run, read_runs
from stimcore.errors import TrainingFailed, UsageError
from stimcore.methods.table import METHODS
from stimcore.recipes.catalogue import FINE_TUNING, RECIPES, recipe
from stimcore.recipes.recipe import Recipe
from stimcore.train.smoke import LEARNED_FRAC, SHAPES, SmokeRun, smoke_run, smoke_table
from stimcore.train.trainer import Trainer

SMALL = ("resnet20-fashion", "resnet20-cifar10", "resnet20-cifar10-full")
"""Recipes whose smoke runs take minutes; those of all recipes are run by hand."""


def test_every_recipe_has_the_shape_of_its_images() -> None:
    for name in RECIPES:
        assert recipe(name).dataset.partition("@")[0] in SHAPES


@pytest.mark.slow
def test_a_run_of_a_few_steps_has_the_rate_and_batch_of_the_recipe() -> None:
    run = smoke_run(recipe("resnet20-cifar10-full"), "common", steps=3, images=striped_images(400, side=28, classes=10))
    assert (run.batch_size, run.learning_rate, run.steps, run.scaled) == (128, 0.1, 3, False)
    assert not run.learned
    assert "| resnet20-cifar10-full | common | 128 | 0.1 | 3 |" in smoke_table([run])


def test_slow_steps_get_a_small_batch_and_a_rate_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stimcore.train.smoke.PATIENCE_S", 0.0)
    run = smoke_run(recipe("resnet20-cifar10-full"), "stimulative", steps=2, images=striped_images(300, side=28, classes=10))
    assert (run.batch_size, run.scaled) == (16, True)
    assert run.learning_rate == pytest.approx(0.0125)
    assert "16 (scaled)" in smoke_table([run])


@pytest.mark.parametrize(("step_s", "tried"), [(1.0, {16, 128}), (3.0, {16})])
def test_a_batch_that_is_hopelessly_large_is_never_tried(
    monkeypatch: pytest.MonkeyPatch, step_s: float, tried: set[int]
) -> None:
    """512 images of 224 px in one step end the process where memory ends."""
    sizes = set()
    clock = itertools.count(step=step_s)
    real = Trainer.train_step

    def seen(self: Trainer, batch: Any, number: int) -> dict[str, Any]:
        sizes.add(len(batch.labels))
        return real(self, batch, number)

    monkeypatch.setattr(Trainer, "train_step", seen)
    monkeypatch.setattr("stimcore.train.smoke.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    run = smoke_run(recipe("resnet20-fashion"), "common", steps=2, images=striped_images(300, side=28, classes=10))
    assert sizes == tried
    assert run.scaled == (tried == {16})


@pytest.mark.parametrize(
    ("asked", "native", "precision", "conditions"),
    [
        ("bf16", True, "bf16", "16 (scaled, bf16)"),
        ("bf16", False, "fp32", "16 (scaled)"),
        ("fp32", True, "fp32", "16 (scaled)"),
    ],
)
def test_the_recipes_number_format_is_used_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, asked: str, native: bool, precision: str, conditions: str
) -> None:
    used = []
    real = Trainer.train_step

    def seen(self: Trainer, batch: Any, number: int) -> dict[str, Any]:
        used.append(self.precision.name)
        return real(self, batch, number)

    monkeypatch.setattr(Trainer, "train_step", seen)
    monkeypatch.setattr("stimcore.train.smoke.PATIENCE_S", 0.0)
    monkeypatch.setattr("stimcore.train.smoke.computes_in_bf16", lambda _: native)
    plan = dataclasses.replace(recipe("resnet20-fashion"), precision=asked)
    run = smoke_run(plan, "common", steps=1, images=striped_images(128, side=28, classes=10))
    assert (run.precision, set(used)) == (precision, {precision})
    assert run.conditions == conditions
    assert f"| {conditions} | 0.0125 |" in smoke_table([run])


def test_a_kept_run_that_names_no_number_format_was_made_in_fp32(tmp_path: Path) -> None:
    old = {name: value for name, value in _made("resnet20-fashion", "common").items() if name != "precision"}
    (tmp_path / "runs.json").write_text(json.dumps({"runs": [old, {**old, "precision": "bf16"}]}))
    assert [as_run(each).conditions for each in read_runs(tmp_path / "runs.json")] == ["128", "128 (bf16)"]


def test_the_steps_that_are_timed_are_no_part_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, images = recipe("resnet20-fashion"), striped_images(300, side=28, classes=10)
    timed = smoke_run(plan, "layer_supervision", steps=2, images=images)
    monkeypatch.setattr("stimcore.train.smoke._too_slow", lambda *_: False)
    assert smoke_run(plan, "layer_supervision", steps=2, images=images).cross_entropy == timed.cross_entropy


def test_a_rate_that_is_far_too_high_is_named() -> None:
    plan = dataclasses.replace(recipe("resnet20-fashion"), learning_rate=1e9, schedule="step")
    with pytest.raises(TrainingFailed, match="resnet20-fashion, common: the loss was"):
        smoke_run(plan, "common", steps=8, images=striped_images(1100, side=28, classes=10))


def test_learned_is_clearly_below_guessing() -> None:
    made = SmokeRun("r", "common", 1, 0.1, 200, LEARNED_FRAC * math.log(10) + 1e-9, 0.1, scaled=False)
    assert not made.learned
    assert dataclasses.replace(made, cross_entropy=made.cross_entropy - 1e-6).learned


def test_the_command_lists_runs_and_fails_where_one_has_not_learned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = {"common": 1.0, "stimulative": 2.2}

    def made(plan: Recipe, method: str, *, steps: int) -> SmokeRun:
        return SmokeRun(plan.name, method, plan.batch_size, plan.learning_rate, steps, losses[method], 0.1, scaled=False)

    monkeypatch.setattr("stimcore.bench.smoke.smoke_run", made)
    assert bench.main(["smoke", "--recipes", "resnet20-fashion", "--methods", "common", "--steps", "3"]) == 0
    assert "| resnet20-fashion | common | 128 | 0.1 | 3 | 1.00 | yes | 0.10 |" in capsys.readouterr().out
    assert bench.main(["smoke", "--recipes", "resnet20-fashion", "resnet44-fashion"]) == 1
    assert "| resnet44-fashion | stimulative | 128 | 0.1 | 200 | 2.20 | **no** | 0.10 |" in capsys.readouterr().out


def _made(name: str, method: str, *, loss: float = 1.0, scaled: bool = False) -> dict[str, Any]:
    """Return a run as `--keep` writes it."""
    run = SmokeRun(name, method, 16 if scaled else 128, 0.0125 if scaled else 0.1, 200, loss, 0.1, scaled=scaled)
    return {**dataclasses.asdict(run), "machine": {"device": "a processor", "cores": 2, "torch": "2.14.1"}}


def test_finished_runs_are_kept_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def made(plan: Recipe, method: str, *, steps: int) -> SmokeRun:
        asked.append(method)
        if method == "stimulative" and len(asked) == 2:
            raise KeyboardInterrupt
        return SmokeRun(plan.name, method, plan.batch_size, plan.learning_rate, steps, 0.5, 0.1, scaled=False)

    monkeypatch.setattr("stimcore.bench.smoke.smoke_run", made)
    words = ["smoke", "--keep", str(tmp_path / "runs.json"), "--steps", "3", "--methods", "common", "stimulative"]
    with pytest.raises(KeyboardInterrupt):
        bench.main(words)
    assert bench.main(words) == 0
    assert asked == ["common", "stimulative", "stimulative"]
    assert "| resnet20-fashion | common | 128 | 0.1 | 3 | 0.50 | yes | 0.10 |" in capsys.readouterr().out
    # another number of steps is another run
    assert bench.main([*words[:4], "4", *words[5:6], "common"]) == 0
    assert asked[3:] == ["common"]
    assert [run["steps"] for run in read_runs(tmp_path / "runs.json")] == [3, 3, 4]


@pytest.mark.parametrize("text", ["", "[]", '{"runs": [{"recipe": "resnet20-fashion"}]}', '{"bench": "step"}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "runs.json").write_text(text)
    with pytest.raises(UsageError, match="does not hold smoke runs. Name another file with --keep"):
        bench.main(["smoke", "--keep", str(tmp_path / "runs.json")])


def test_a_whole_training_that_has_learned_nothing_is_named() -> None:
    text = smoke_page.render([], {("resnet20-fashion", "common"): 90.04, ("vit-tiny-fashion", "stimulative"): 49.99})
    assert "These have not learned: vit-tiny-fashion with stimulative." in text
    assert "| 90.04 % |" in text
    assert "| **49.99 %** |" in text


def test_the_page_has_a_cell_for_every_recipe_and_method() -> None:
    runs = [
        _made("resnet20-fashion", "common"),
        _made("resnet20-fashion", "self_distillation", loss=2.25),
        _made("resnet50-imagenet", "common", loss=1.5, scaled=True),
        {**_made("resnet44-fashion", "common"), "steps": 100},
    ]
    whole = {("resnet20-fashion", "common"): 90.04, ("vit-tiny-fashion", "stimulative"): 81.69}
    text = smoke_page.render(runs, whole)
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert set(RECIPES) - set(rows) == FINE_TUNING
    assert rows["resnet20-fashion"] == (
        "| resnet20-fashion | 128 | 0.1 | 1.00, 90.04 % | not run | not run | not run | **2.25** | not run |"
    )
    assert rows["vit-tiny-fashion"] == (
        "| vit-tiny-fashion | 128 | 0.002 | not run | 81.69 % | not run | not run | not run | not run |"
    )
    assert rows["resnet50-imagenet"] == "| resnet50-imagenet | 16 (scaled) | 0.0125 | 1.50 | not run | – | – | – | – |"
    assert rows["resnet44-fashion"].count("not run") == 6  # a run of fewer steps shows too little
    pairs = 6 * (len(RECIPES) - 2) + 2
    assert (
        f"4 of {pairs} pairs of a recipe and a method were run so far. These have not learned: resnet20-fashion with self "
        "distillation." in text
    )
    assert "Measured on 2 cores of a processor (torch 2.14.1)." in text
    assert f"0 of {6 * (len(RECIPES) - 1)} pairs of a recipe and a method were run so far.\n" in smoke_page.render([], {})


def test_the_page_says_when_every_pair_was_run() -> None:
    runs = [_made(name, method) for name in RECIPES if name not in FINE_TUNING for method in METHODS]
    text = smoke_page.render(runs, {})
    assert f"All {len(runs)} pairs of a recipe and a method were run. All of these learn." in text
    text = smoke_page.render(runs[1:], {})
    assert f"{len(runs) - 1} of {len(runs)} pairs of a recipe and a method were run so far. All of these learn." in text


def test_a_longer_run_stands_in_the_place_of_a_shorter_one() -> None:
    longer = {**_made("resnet44-fashion", "common", loss=0.9), "steps": 600}
    shorter = _made("resnet44-fashion", "common", loss=2.2)
    for runs in ([shorter, longer], [longer, shorter]):
        text = smoke_page.render(runs, {})
        assert "| resnet44-fashion | 128 | 0.1 | 0.90 (600 steps) | not run |" in text
        assert "All of these learn." in text


def test_a_whole_training_counts_where_its_recipe_was_not_changed(tmp_path: Path) -> None:
    plan = recipe("resnet20-fashion")
    for name, method, made in (
        ("common", "common", plan),
        ("stimulative", "stimulative", dataclasses.replace(plan, epochs=4)),
        ("stimulative-lambda5", "stimulative", plan),
        ("common-seed1", "common", plan),
    ):
        (tmp_path / "mine" / name).mkdir(parents=True)
        manifest = {
            "name": method,
            "method": method,
            "recipe": made.to_dict(),
            "networks": {"main.onnx": {"accuracy_pct": 90.5}},
        }
        (tmp_path / "mine" / name / "manifest.json").write_text(json.dumps(manifest))
    assert smoke_page.trained(tmp_path) == {("resnet20-fashion", "common"): 90.5}


def test_the_page_says_what_was_measured() -> None:
    page = smoke_page.PAGE.read_text(encoding="utf-8")
    made = smoke_page.render(read_runs(smoke_page.FILE), smoke_page.trained(smoke_page.EXPORTED))
    assert page == made, "stale: run python -m stimcore.bench.smoke_page"
    assert smoke_page.MISSING not in page, "a recipe or a method is new: run python -m stimcore.bench smoke as the page says"
    assert "All of these learn." in page


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SMALL)
def test_small_recipes_learn(name: str, method: str) -> None:
    torch.set_num_threads(2)
    run = smoke_run(recipe(name), method)
    assert run.learned, run
