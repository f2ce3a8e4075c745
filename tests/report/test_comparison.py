"""Which ingredient closes the gap: what the table compares, on which seeds, and what it says that a run asks."""

from pathlib import Path

import pytest

from stimcore.analysis.result import Result
from stimcore.report.__main__ import main
from stimcore.report.comparison_section import what_it_asks
from stimcore.report.results import NetworkResults
from tests.analysis.made import FULL, SIX
from tests.report import folders
from tests.report.conftest import ORDERED
from tests.report.folders import rows


def compared_rows(folder: Path, out: Path) -> dict[str, dict[str, str]]:
    """Run -> its row of the table that compares every run."""
    main([str(folder), "--out", str(out), "--no-svg"])
    return {row["run"]: row for row in rows(out / folder.name / "table-comparison.csv")}


def test_every_run_is_compared_with_common_training(made: Path, tmp_path: Path) -> None:
    options = {"weight": 1.0, "target": "labels", "written by a later version": 3}
    folders.bundle(made, "stimulative-labels", 890, method="stimulative", options=options)
    compared = compared_rows(made, tmp_path / "out")
    assert compared["common"]["main minus common's"] == ""
    assert float(compared["stimulative"]["main minus common's"]) == pytest.approx(1.0)
    assert float(compared["stimulative"]["all: mean minus common's"]) == pytest.approx(90.0 - 460 / 9)
    assert float(compared["stimulative (labels)"]["main minus common's"]) == pytest.approx(-1.0)
    assert compared["stimulative (labels)"]["all: mean minus common's"] == ""
    assert compared["stimulative (labels)"]["gap closed, %"] == ""


def test_a_run_with_one_seed_is_compared_on_that_seed(made: Path, tmp_path: Path) -> None:
    """Means over other seeds would tell the luck of these seeds: here common training of seed 1 has no gap to speak of."""
    every = dict.fromkeys(ORDERED, 890)
    folders.bundle(made, "common-seed1", 900, method="common", seed=1, sweeps={"ordered": every | {FULL: 900}})
    folders.bundle(
        made, "stimulative-seed1", 890, method="stimulative", seed=1, options={"weight": 1.0}, sweeps={"ordered": every}
    )
    folders.bundle(made, "stochastic_depth", 900, sweeps={"ordered": dict.fromkeys(ORDERED, 880) | {FULL: 900}})
    compared = compared_rows(made, tmp_path / "out")
    run = compared["stochastic depth"]
    # seed 0: mean of the run 7,940 / 9 of 1,000, of common 4,600 / 9, of stimulative 8,100 / 9
    assert float(run["all: mean minus common's"]) == pytest.approx((7940 - 4600) / 90)
    assert float(run["all: mean minus stimulative's"]) == pytest.approx((7940 - 8100) / 90)
    # its own gap is 160 / 9 and common's 3,500 / 9 of 1,000
    assert float(run["gap closed, %"]) == pytest.approx(100 * (1 - 160 / 3500))
    # seed 0: a gap of 10 of 1,000 in the place of 3,500 / 9; seed 1: none in the place of 80 / 9
    assert float(compared["stimulative"]["gap closed, %"]) == pytest.approx((100 * (1 - 90 / 3500) + 100) / 2)
    assert compared["stimulative"]["all: mean minus stimulative's"] == ""


def test_no_table_mixes_means_over_other_seeds(made: Path, tmp_path: Path) -> None:
    """Common training's seed 1 is 80 of 1,000 worse: its mean would make the run of seed 0 look better than common training."""
    folders.bundle(made, "common-seed1", 820, method="common", seed=1, sweeps={"ordered": dict.fromkeys(ORDERED, 820)})
    every = dict.fromkeys(ORDERED, 900)
    folders.bundle(
        made, "stimulative-seed1", 900, method="stimulative", seed=1, options={"weight": 1.0}, sweeps={"ordered": every}
    )
    folders.bundle(made, "stochastic_depth", 880, sweeps={"ordered": dict.fromkeys(ORDERED, 880)})
    compared = compared_rows(made, tmp_path / "out")
    alone = compared["stochastic depth"]
    assert float(alone["common's, same seeds"]) == pytest.approx(350 / 9)
    assert alone["seeds"] == "1"
    folder = tmp_path / "out" / "made"
    mains = {
        name: {row["method"]: float(row["main, here"]) for row in rows(folder / f"{name}.csv") if row["main, here"]}
        for name in ("table-r3-accuracy", "table-r3-accuracy-seeds")
    }
    of_one_seed = mains["table-r3-accuracy"]
    assert (of_one_seed["common"], of_one_seed["stimulative"], of_one_seed["stochastic depth"]) == (90.0, 91.0, 88.0)
    assert mains["table-r3-accuracy-seeds"] == {"common": 86.0, "stimulative": 90.5}
    inside = {
        name: [row["sub-network in main network"] for row in rows(folder / f"{name}.csv")]
        for name in ("table-gaps", "table-gaps-seeds")
    }
    assert "d1-1 in stochastic depth" in inside["table-gaps"]
    assert inside["table-gaps-seeds"] == [
        f"{twin} in {method}" for method in ("common", "stimulative") for twin in ("d1-1", "d2-2")
    ]


@pytest.mark.parametrize(
    ("options", "recipe_keys", "asks"),
    [
        ({"target": "labels"}, {}, "is it the teacher? Sub-networks learn from the labels"),
        ({"sandwich": True}, {}, "is it the random choice? The smallest sub-network in every step as well"),
        ({"sample": "deletions"}, {}, "must sub-networks be ordered? Any deletions are sampled"),
        ({"weight": 0.5}, {}, "lambda 0.5"),
        ({}, {"epochs": 78}, "is it the processor time? 78 epochs"),
        ({"subnets": 3}, {"batch_size": 64, "label": "another"}, "subnets=3; batch_size=64"),
        ({}, {}, ""),
    ],
)
def test_what_a_run_asks_is_told_by_what_differs(options: dict[str, object], recipe_keys: dict[str, object], asks: str) -> None:
    common_keys = {"weight": 1.0, "target": "main", "sandwich": False, "sample": "ordered", "subnets": 1}
    recipe = {"epochs": 60, "batch_size": 128, "label": "reduced recipe", "options": {}}
    own, other = (
        NetworkResults(
            name=name,
            method="stimulative",
            depths=(3, 3),
            twin=False,
            main=Result.counted(SIX.full, images=10, correct=9, lost=0, won=0),
            topology=SIX,
            options=common_keys | changed,
            recipe=recipe | keys,
        )
        for name, changed, keys in (("stimulative", {}, {}), ("other", options, recipe_keys))
    )
    assert what_it_asks(other, own) == asks
    assert what_it_asks(own, own) == what_it_asks(other, None) == ""
