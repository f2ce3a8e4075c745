"""Watching: which sub-networks, and that every count is the one of a plain evaluation."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from stimcore.analysis.intervals import wilson
from stimcore.data.images import Dataset
from stimcore.data.subset import stratified
from stimcore.errors import UsageError
from stimcore.nets.cut import cut
from stimcore.recipes.recipe import Recipe
from stimcore.reference.evaluate import evaluate
from stimcore.runs.run import training_records
from stimcore.subnets.topology import Topology
from stimcore.train.trainer import Trainer
from stimcore.train.watch import existing_names, watched
from tests.train.conftest import MakeTrainer, pictures

TOPOLOGY = Topology.of("net", [3, 2, 4])


def shorts(names: Sequence[str], topology: Topology = TOPOLOGY) -> dict[str, str]:
    """Names and short forms."""
    return {name: topology.short(spec) for name, spec in watched(topology, names).items()}


def test_names_stand_for_sub_networks() -> None:
    assert shorts(["smallest", "half"]) == {"smallest": "d1-1-1", "half": "d2-1-2"}
    assert shorts(["d1-2-3", "1.4-5.6"]) == {"d1-2-3": "d1-2-3", "1.4-5.6": "d1-2-1"}
    everything = shorts(["half", "ordered"])
    assert len(everything) == 3 * 2 * 4 - 1
    assert everything["half"] == "d2-1-2"
    assert shorts(["main", "d3-2-4"]) == {}
    assert shorts([]) == {}
    assert shorts(["smallest", "half"], Topology.of("net", [1, 2])) == {"smallest": "d1-1"}


def test_names_that_stand_for_nothing_are_refused_or_left_out() -> None:
    for name in ("largest", "d4-1-1", "1-3.4.6", "d1-1"):
        with pytest.raises(UsageError, match="can't be watched"):
            watched(TOPOLOGY, [name])
    assert existing_names(TOPOLOGY, ("smallest", "d1-2-3", "d4-1-1", "1-3.4.6")) == ("smallest", "d1-2-3")
    for name in ("smalest", "d1-", "d", "ordered ", ""):  # of no network: a recipe that says so would watch nothing in silence
        with pytest.raises(UsageError, match="can't be watched"):
            existing_names(TOPOLOGY, ("smallest", name))


def test_every_count_is_that_of_a_plain_evaluation(
    trainer_for: MakeTrainer, recipe: Recipe, tiny: Dataset, tmp_path: Path
) -> None:
    data = dataclasses.replace(tiny, test=pictures(90, seed=1))
    plan = dataclasses.replace(recipe, epochs=5, watch=("ordered",), watch_every=2, watch_images=40, evaluate_every=4)
    trainer = trainer_for("stimulative", plan=plan, data=data)
    counted = []
    for row in trainer.run(tmp_path):
        assert ("watched" in row) == ("watch_seconds" in row) == (row["epoch"] in (2, 4, 5))
        assert ("test" in row) == ("evaluate_seconds" in row) == (row["epoch"] in (2, 4, 5))
        if "watched" in row:
            counted.append({one["spec"]: one["correct"] for one in row["watched"]})
    rows = training_records(tmp_path)
    sample = stratified(data.test, 40)
    assert len(counted) == 3
    assert len(counted[-1]) == 26
    assert len(set(counted[-1].values())) > 1
    for one in rows[-1]["watched"]:
        spec = trainer.net.topology.parse(one["spec"])
        plain = evaluate(trainer.net, spec, sample, data.normalisation, calibration=trainer.evaluator.calibration)
        assert one["correct"] == plain.correct
        assert one["images"] == 40
        assert one["name"] == trainer.net.topology.short(spec)
        assert one["accuracy_pct"] == 100 * plain.correct / 40
        assert one["interval_pct"] == list(wilson(plain.correct, 40))
    assert rows[-1]["test"]["images"] == 90


def test_watching_changes_nothing_of_the_training(trainer_for: MakeTrainer, recipe: Recipe, tmp_path: Path) -> None:
    losses = []
    for names in ((), ("ordered",)):
        folder = tmp_path / str(len(names))
        folder.mkdir()
        plan = dataclasses.replace(recipe, watch=names, evaluate_every=1 if names else 3)
        losses.append([row["losses"] for row in trainer_for("stimulative", plan=plan).run(folder)])
    assert losses[0] == losses[1]


def test_a_twin_watches_what_it_has(trainer_for: MakeTrainer, recipe: Recipe, tiny: Dataset, tmp_path: Path) -> None:
    plan = dataclasses.replace(recipe, epochs=1, watch=("smallest", "half"))
    plain = trainer_for(plan=plan)
    twin = cut(plain.net, plain.net.topology.ordered([1, 1, 1]))
    (row,) = Trainer(twin, plain.method, plan, tiny, plain.settings).run(tmp_path)
    assert "watched" not in row  # its smallest is itself


@pytest.mark.slow
def test_the_peak_of_an_epoch_contains_what_was_in_use_before_it(
    trainer_for: MakeTrainer, recipe: Recipe, tiny: Dataset, tmp_path: Path
) -> None:
    data = dataclasses.replace(tiny, test=pictures(12_000, side=20, seed=1))
    rows = list(trainer_for(plan=recipe, data=dataclasses.replace(data, train=pictures(48, side=20))).run(tmp_path))
    # the system counts both per thread and adds them up late, and an allocator may give memory back: 5% are allowed for that
    assert all(row["peak_memory_bytes"] >= 0.95 * row["start_memory_bytes"] > 10**7 for row in rows)
