"""Verdicts on an experiment whose counts are known, and on one that lacks everything."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from stimcore.analysis.estimates import Basis, Estimate
from stimcore.report import __main__ as report
from stimcore.report.__main__ import main
from stimcore.report.claims import CLAIMS, Claim, judge_claims
from stimcore.report.criteria.finding import all_positive
from stimcore.report.markdown import MOST_CHARACTERS, shortened
from stimcore.report.results import read_experiment
from stimcore.subnets.topology import Topology
from tests.analysis.made import FULL, record
from tests.report import folders
from tests.report.conftest import DELETED, ORDERED


def claims_of(folder: Path) -> dict[str, Claim]:
    return {claim.name: claim for claim in judge_claims(read_experiment(folder))}


def test_every_verdict_of_the_made_experiment(made: Path) -> None:
    claims = claims_of(made)
    assert {name: claim.verdict for name, claim in claims.items()} == {
        "main": "holds",
        "all-mean": "holds",
        "deviation": "holds",
        "every sub-network": "holds",
        "one block deleted": "does not hold",
        "blocks deleted": "holds",
        "blocks permuted": "holds",
        "one later block deleted": "holds",
        "later blocks deleted": "holds",
        "later blocks permuted": "holds",
        "any block deleted": "not measured",
        "any block, main network": "not measured",
        "any block, sub-networks": "not measured",
        "loafing": "holds",
        "gap closed": "holds",
        "deeper loafs more": "holds",
        "best of six": "not measured",
        "order of six": "not measured",
        "lambda": "not measured",
        "time": "holds",
        "memory": "holds",
        "bound": "holds",
    }


def test_clarity_follows_the_interval(made: Path) -> None:
    claims = claims_of(made)
    assert claims["main"].clarity == "within noise"  # 910 against 900 of 1,000
    assert claims["loafing"].clarity == "one seed"  # 880 alone, 100 inside: no interval says that of another seed
    assert claims["one block deleted"].clarity == "within noise"  # 1.5 points, interval over 1
    assert claims["every sub-network"].clarity == ""


def test_findings_hold_the_numbers(made: Path) -> None:
    measured = {name: claim.finding.measured for name, claim in claims_of(made).items()}
    assert "stimulative 91.00%" in measured["main"]
    assert "difference 1.00 points" in measured["main"]
    assert "stimulative 1.00 points" in measured["all-mean"]
    assert "common 38.89 points" in measured["all-mean"]
    assert "stimulative 1.50 points" in measured["one block deleted"]
    assert "(block 1)" in measured["one block deleted"]
    assert "d1-1 78.00 points" in measured["loafing"]
    assert "d2-2 39.50 points" in measured["loafing"]
    assert "d1-1 -1.00 points" in measured["gap closed"]
    assert "against 78.00" in measured["gap closed"]
    assert "d1-1: 88.00, 30.00, 10.00; d2-2: 89.50, 50.00" in measured["deeper loafs more"]
    assert "1.40 (epochs of seed 0 range over 1.40 to 1.40)" in measured["time"]
    assert "wall clock 1.50" in measured["time"]
    assert measured["every sub-network"] == "9 of 9 are"
    assert "stimulative 0.50 points" in measured["one later block deleted"]
    assert "(block 2)" in measured["one later block deleted"]
    assert "1 operations: 0.10 (0.10 to 0.10) against 40.00" in measured["later blocks permuted"]
    assert "2 deleted" in measured["blocks deleted"]
    assert "2 deleted" not in measured["later blocks deleted"]
    assert "ratio 1.020 (1020 against 1000 MiB for the whole process" in measured["memory"]
    assert "layer supervision" in measured["best of six"]
    assert "stimulative" not in measured["best of six"]


def test_lambda_in_its_own_experiment(made: Path) -> None:
    claims = claims_of(made.with_name("made-lambda"))
    assert claims["lambda"].verdict == "holds"
    assert claims["lambda"].clarity == "within noise"
    assert "lambda 1 1.00 points" in claims["lambda"].finding.measured
    assert "lambda 10 0.50 points" in claims["lambda"].finding.measured


def test_nothing_there_is_not_measured_rather_than_failed(tmp_path: Path) -> None:
    claims = claims_of(folders.experiment(tmp_path / "empty"))
    assert {claim.verdict for claim in claims.values()} == {"not measured"}
    assert all(claim.finding.measured.startswith("missing: ") for claim in claims.values())


def test_a_loss_does_not_hold(tmp_path: Path) -> None:
    folder = folders.experiment(tmp_path / "worse")
    same = dict.fromkeys(ORDERED, 900)
    folders.bundle(folder, "common", 900, sweeps={"ordered": same, "delete": dict.fromkeys(DELETED, 900)})
    folders.bundle(folder, "stimulative", 700, sweeps={"ordered": {**same, "1.4": 300}, "delete": dict.fromkeys(DELETED, 300)})
    claims = claims_of(folder)
    assert (claims["main"].verdict, claims["main"].clarity) == ("does not hold", "one seed")
    assert claims["every sub-network"].verdict == claims["blocks deleted"].verdict == "does not hold"
    assert claims["every sub-network"].finding.measured == "8 of 9 are; not: d1-1 (30.00 against 90.00)"
    assert claims["one block deleted"].clarity == "one seed"
    assert claims["deviation"].verdict == "not measured"  # common's own deviation is 0: there is no ratio
    assert claims["time"].finding.measured == "missing: records of the epochs"


@pytest.mark.slow
def test_an_own_method_has_the_name_of_its_class_in_every_table(made: Path, tmp_path: Path) -> None:
    """Underscores in the name of a class or module are no spaces; the settings of a run have the whole name."""
    for name, correct in (("Mixed_up", 800), ("Mixed_up-share_of-0.25", 810), ("mine", 820)):
        folders.bundle(made, name, correct, method="my_methods:Mixed_up", sweeps={"ordered": dict.fromkeys(ORDERED, correct)})
    titles = [network.title for network in read_experiment(made).main_networks if network.method.endswith("Mixed_up")]
    assert sorted(titles) == ["Mixed_up", "Mixed_up (mine)", "Mixed_up (share_of-0.25)"]
    assert report.main([str(made), "--out", str(tmp_path), "--markdown", str(tmp_path / "results.md")]) == 0
    written = [
        path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.suffix in (".html", ".csv", ".md", ".svg")
    ]
    assert any("Mixed_up" in text for text in written)
    assert [found for text in written for found in re.findall(r"my methods|Mixed up", text)] == []


def test_what_contradicts_a_claim_comes_first_however_long_the_list(tmp_path: Path) -> None:
    """docs/results.md cuts long texts at their ends: a verdict must not stand beside numbers that all confirm the claim."""
    topology = Topology.of("deep", [12])
    ordered = {topology.ordered([depth]): depth for depth in range(1, 13)}
    deep = folders.experiment(tmp_path / "deep", topology)
    for name, last, step in (("common", 400, 30), ("stimulative", 300, 1)):
        # all counts confirm the claims, except for the last number of blocks or operations and the smallest sub-network
        worth = {amount: last if amount == 11 else 900 - step * amount for amount in range(12)}
        folders.bundle(
            deep,
            name,
            900,
            topology=topology,
            options={"weight": 1.0} if name == "stimulative" else None,
            sweeps={
                "ordered": {str(spec): worth[12 - depth] for spec, depth in ordered.items()},
                "delete": {"-".join(map(str, range(gone + 1, 13))): worth[gone] for gone in range(1, 12)},
                "permute": {
                    "-".join(map(str, [*range(2, moved + 2), 1, *range(moved + 2, 13)])): worth[moved] for moved in range(1, 12)
                },
            },
        )
    for spec, depth in ordered.items():
        small, correct = Topology.of("deep", [depth]), 399 if depth == 1 else 890
        folders.bundle(deep, f"twin-d{depth}", correct, method="common", topology=small, spec=str(spec))
    claims = claims_of(deep)
    exceptions = {
        "every sub-network": "11 of 12 are; not: d1 (30.00 against 40.00)",
        "blocks deleted": "10 of 11 are; not: 11 deleted (60.00 against 50.00)",
        "blocks permuted": "10 of 11 are; not: 11 operations (60.00 against 50.00)",
        "loafing": "not: d1 -0.10 points",
        "gap closed": "not: d1 9.90 points",
    }
    assert {name for name in exceptions if claims[name].finding.holds is False} == set(exceptions)
    for name, exception in exceptions.items():
        assert len(claims[name].finding.measured) > MOST_CHARACTERS or name == "every sub-network"
        assert exception in shortened(claims[name].finding.measured), name


def test_every_failing_row_of_the_results_says_what_fails() -> None:
    rows = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8").splitlines()
    cut = [row for row in rows if "**does not hold" in row and "; ... |" in row]
    assert [row for row in cut if " are; not: " not in row] == []


def test_training_on_any_deletions_stands_beside_that_on_ordered_sub_networks(tmp_path: Path) -> None:
    folder = folders.experiment(tmp_path / "any")
    for seed, (ordered, any_) in enumerate([(910, 912), (905, 906), (908, 911)]):
        for name, correct, weakest, options in (
            ("stimulative", ordered, 600 + seed, {"weight": 1.0}),
            ("stimulative-deletions", any_, any_ - 3, {"weight": 1.0, "sample": "deletions"}),
        ):
            deleted = {text: correct - 1 for text in DELETED} | {"2-3.4-5-6": weakest}
            sweeps = {"ordered": dict.fromkeys(ORDERED, correct - 4 * len(options)), "delete": deleted}
            folders.bundle(
                folder,
                f"{name}-seed{seed}" if seed else name,
                correct,
                method="stimulative",
                seed=seed,
                options=options,
                sweeps=sweeps,
            )
    claims = claims_of(folder)
    lost = claims["any block deleted"]
    assert (lost.full_verdict, lost.added) == ("holds, clearly", True)
    # 0.3 points in every seed, against 31.0, 30.4 and 30.6; t(2) = 4.303
    assert lost.finding.measured == (
        "largest drop: trained on any deletions 0.30 points [0.30, 0.30] (block 1), "
        "on ordered sub-networks 30.67 points [29.91, 31.43] (block 1); over 3 seeds"
    )
    main = claims["any block, main network"]
    assert main.full_verdict == "holds, within noise"
    assert "any deletions 90.97% [90.17, 91.77], ordered 90.77% [90.14, 91.39], difference 0.20 points" in main.finding.measured
    # the sub-networks are 0.4 points further below their main networks, which are 0.2 better
    assert claims["any block, sub-networks"].full_verdict == "holds, clearly"
    assert "difference -0.20 points" in claims["any block, sub-networks"].finding.measured
    assert claims["one block deleted"].verdict == "not measured", "there is no common training beside it"


@pytest.mark.parametrize("others", [{}, {"stimulative": {"weight": 5.0}}], ids=["alone", "beside another lambda"])
def test_training_on_any_deletions_is_compared_with_nothing_else(tmp_path: Path, others: dict[str, dict[str, float]]) -> None:
    folder = folders.experiment(tmp_path / "any")
    runs = {"stimulative-deletions": {"weight": 1.0, "sample": "deletions"}} | others
    for name, options in runs.items():
        sweeps = {"ordered": dict.fromkeys(ORDERED, 900), "delete": dict.fromkeys(DELETED, 900)}
        folders.bundle(folder, name, 900, method="stimulative", options=options, sweeps=sweeps)
    claims = claims_of(folder)
    for name in ("any block deleted", "any block, main network", "any block, sub-networks"):
        assert claims[name].verdict == "not measured", name


@pytest.mark.parametrize("row", CLAIMS, ids=lambda row: row[0])
def test_claims_are_sentences(row: tuple[str, str, str, object]) -> None:
    name, criterion, printed, _ = row
    assert criterion.endswith(".")
    assert criterion[0].isupper()
    assert printed
    assert "|" not in name + criterion + printed


def test_several_seeds_make_a_verdict_clear(made: Path) -> None:
    """Three seeds that agree: the interval is over seeds, paired by seed, and only then a verdict is called clear."""
    for method, counts in (("common", (895, 902)), ("stimulative", (906, 913))):
        for seed, correct in enumerate(counts, start=1):
            folders.bundle(
                made,
                f"{method}-seed{seed}",
                correct,
                method=method,
                seed=seed,
                options={"weight": 1.0} if method == "stimulative" else None,
            )
    claims = claims_of(made)
    assert (claims["main"].verdict, claims["main"].clarity) == ("holds", "clearly")
    # 910, 906, 913 against 900, 895, 902 of 1,000: +1.0, +1.1, +1.1 points; t(2) = 4.303
    assert "difference 1.07 points [0.92, 1.21] (over 3 seeds)" in claims["main"].finding.measured
    assert "stimulative 90.97% [90.09, 91.84]" in claims["main"].finding.measured
    assert claims["all-mean"].clarity == "one seed"  # only seed 0 was swept
    assert "means over" not in claims["every sub-network"].finding.measured
    assert claims["one block deleted"].finding.measured.endswith("over images (seed 0)")
    assert [network.name for network in read_experiment(made).main_networks] == ["common", "self_distillation", "stimulative"]


def test_claims_on_later_blocks_are_for_networks_whose_first_blocks_can_be_deleted(tmp_path: Path) -> None:
    """Elsewhere, as in MobileNetV3, they would repeat the claims on all blocks."""
    fixed = Topology.of("six", [3, 3], {1: "it changes the resolution", 4: "it changes the resolution"})
    folder = folders.experiment(tmp_path / "exported" / "made", fixed)
    for method, drop in (("common", 100), ("stimulative", 5)):
        counts = {text: 900 - drop for text in ("1-3.4-5-6", "1-2-3.4-6")}
        folders.bundle(folder, method, 900, topology=fixed, sweeps={"delete": counts, "permute": {"1-3-2.4-5-6": 900 - drop}})
    claims = claims_of(folder)
    for name in ("one block deleted", "blocks deleted", "blocks permuted"):
        assert claims[name].verdict == "holds"
    for name in ("one later block deleted", "later blocks deleted", "later blocks permuted"):
        assert claims[name].verdict == "not measured"
        assert "can be deleted" in claims[name].finding.measured


SIX_METHODS = {
    "common": 900,
    "layer_supervision": 899,
    "stage_supervision": 898,
    "self_distillation": 897,
    "stochastic_depth": 905,
    "stimulative": 906,
}


def six_methods(folder: Path) -> Path:
    """Seed 0 of all six with their sub-networks 20 of 1,000 below; seed 1 of two, in which stimulative training was unlucky."""
    folders.experiment(folder)
    runs = [(name, name, correct, 0) for name, correct in SIX_METHODS.items()]
    runs += [("common-seed1", "common", 900, 1), ("stimulative-seed1", "stimulative", 870, 1)]
    for name, method, correct, seed in runs:
        options = {"weight": 1.0} if method == "stimulative" else None
        counts = dict.fromkeys(ORDERED, correct - 20) | {FULL: correct}
        folders.bundle(folder, name, correct, method=method, seed=seed, options=options, sweeps={"ordered": counts})
    return folder


def test_methods_are_ranked_on_the_seeds_that_all_have(tmp_path: Path) -> None:
    """Over its own two seeds stimulative training has 88.80 and would come last."""
    claims = claims_of(six_methods(tmp_path / "six"))
    best = claims["best of six"]
    assert best.finding.measured.startswith("main: stimulative 90.60, stochastic depth 90.50, common 90.00, layer")
    assert best.finding.measured.endswith("(seed 0)")
    assert (best.verdict, best.clarity) == ("holds", "within noise")
    assert claims["order of six"].finding.measured.endswith("(seed 0)")


def test_the_best_of_six_is_named_over_several_seeds(tmp_path: Path) -> None:
    folder = six_methods(tmp_path / "six")
    for method, correct in list(SIX_METHODS.items())[1:5]:
        counts = dict.fromkeys(ORDERED, correct - 20) | {FULL: correct}
        folders.bundle(folder, f"{method}-seed1", correct, method=method, seed=1, sweeps={"ordered": counts})
    best = claims_of(folder)["best of six"]
    assert best.verdict == "does not hold"
    assert "self distillation 89.70, stimulative 88.80;" in best.finding.measured
    assert best.finding.measured.endswith("(means over 2 seeds)")


def test_costs_are_compared_over_seeds_and_on_one_kind_of_processor(made: Path) -> None:
    """Seed 1 took half as long again, seed 2 ran on two processors: its ratio says nothing about the methods."""
    folders.bundle(made, "common-seed1", 900, method="common", seed=1, records=[record(1, 10, 10, 1000)])
    folders.bundle(made, "common-seed2", 900, method="common", seed=2, records=[record(1, 10, 10, 1000)], device="a slow one")
    options = {"weight": 1.0}
    for seed, seconds in ((1, 15), (2, 90)):
        rows = [record(1, seconds, seconds, 1100)]
        folders.bundle(made, f"stimulative-seed{seed}", 910, method="stimulative", seed=seed, options=options, records=rows)
    claims = claims_of(made)
    assert "per epoch 1.45 (" in claims["time"].finding.measured  # the mean of 1.4 and 1.5
    assert "over 2 seeds), of wall clock 1.50" in claims["time"].finding.measured
    assert claims["time"].finding.seeds == 2
    assert "means over 2 seeds" in claims["memory"].finding.measured
    assert claims["bound"].finding.measured.startswith("seed 0: ")


def test_costs_of_two_processors_are_not_compared(tmp_path: Path) -> None:
    folder = folders.experiment(tmp_path / "exported" / "mixed")
    for name, device in (("common", "one"), ("stimulative", "another")):
        folders.bundle(folder, name, 900, records=[record(1, 10, 10, 1000)], device=device)
    claims = claims_of(folder)
    assert claims["time"].finding.measured == "missing: trainings on the same kind of processor or GPU"
    main([str(folder), "--out", str(tmp_path / "out"), "--no-svg"])
    costs = folders.rows(tmp_path / "out" / "mixed" / "table-r3-cost.csv")
    assert {row["method"]: row["over common, here"] for row in costs}["stimulative"] == ""


def test_gaps_of_a_twin_of_one_seed_name_it(made: Path) -> None:
    """Twins of seed 0 in networks of two seeds: their gaps are of seed 0; by how much training closes them is known over both.

    Inside, d1-1 gets 10.00 and 89.00 percent with seed 0, and 20.00 and 89.50 with seed 1.
    """
    for method, inside in (("common", 200), ("stimulative", 895)):
        counts = dict.fromkeys(ORDERED, inside) | {FULL: 900}
        options = {"weight": 1.0} if method == "stimulative" else None
        folders.bundle(made, f"{method}-seed1", 900, method=method, seed=1, options=options, sweeps={"ordered": counts})
    measured = {name: claim.finding.measured for name, claim in claims_of(made).items()}
    assert measured["loafing"].startswith("gap (twin minus inside, independent, seed 0): d1-1 78.00 points")
    closed = measured["gap closed"]
    assert closed.startswith("gap (twin minus inside, independent, seed 0; closed over 2 seeds), stimulative against common: ")
    assert "d1-1 -1.00 points" in closed
    assert "against 78.00, closed by 74.25 points" in closed
    assert "(independent; seed 0): d1-1: 88.00, 30.00, 10.00" in measured["deeper loafs more"]


def test_a_verdict_is_clear_only_if_images_confirm_it_as_well() -> None:
    """Three seeds that agree to 0.02 points, on images that could be others."""
    by_luck = Estimate(0.06, 0.02, 0.09, Basis.SEEDS, 3, over_images=(-0.26, 0.37))
    assert all_positive([by_luck]) == (True, False, 3)
    assert all_positive([replace(by_luck, over_images=(0.01, 0.2))]) == (True, True, 3)
    below = Estimate(-0.06, -0.09, -0.02, Basis.SEEDS, 3, over_images=(-0.37, 0.26))
    assert all_positive([below]) == (False, False, 3)
    assert all_positive([replace(below, over_images=None)]) == (False, True, 3)
