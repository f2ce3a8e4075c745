"""Verdicts on an experiment whose counts are known, and on one that lacks everything."""

from pathlib import Path

import pytest

from stimcore.report.claims import CLAIMS, Claim, judge_claims
from stimcore.report.results import read_experiment
from tests.report import folders
from tests.report.conftest import DELETED, ORDERED


def verdicts(folder: Path) -> dict[str, Claim]:
    return {claim.name: claim for claim in judge_claims(read_experiment(folder))}


def test_every_verdict_of_the_made_experiment(made: Path) -> None:
    found = verdicts(made)
    assert {name: claim.verdict for name, claim in found.items()} == {
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
    found = verdicts(made)
    assert found["main"].clarity == "within noise"  # 910 against 900 of 1,000
    assert found["loafing"].clarity == "clearly"  # 880 alone, 100 inside
    assert found["one block deleted"].clarity == "within noise"  # 1.5 points, interval over 1
    assert found["every sub-network"].clarity == ""


def test_findings_hold_the_numbers(made: Path) -> None:
    found = {name: claim.finding.measured for name, claim in verdicts(made).items()}
    assert "stimulative 91.00%" in found["main"] and "difference 1.00 points" in found["main"]
    assert "stimulative 1.00 points" in found["all-mean"] and "common 38.89 points" in found["all-mean"]
    assert "stimulative 1.50 points" in found["one block deleted"] and "(block 1)" in found["one block deleted"]
    assert "d1-1 78.00 points" in found["loafing"] and "d2-2 39.50 points" in found["loafing"]
    assert "d1-1 -1.00 points" in found["gap closed"] and "against 78.00" in found["gap closed"]
    assert "d1-1: 88.00, 30.00, 10.00; d2-2: 89.50, 50.00" in found["deeper loafs more"]
    assert "1.40 (epochs range over 1.40 to 1.40)" in found["time"] and "wall clock 1.50" in found["time"]
    assert found["every sub-network"] == "9 of 9 are"
    assert "stimulative 0.50 points" in found["one later block deleted"] and "(block 2)" in found["one later block deleted"]
    assert "1 operations: 0.10 (0.10 to 0.10) against 40.00" in found["later blocks permuted"]
    assert "2 deleted" in found["blocks deleted"] and "2 deleted" not in found["later blocks deleted"]
    assert "ratio 1.020 (1020 against 1000 MiB" in found["memory"]
    assert "layer supervision" in found["best of six"] and "stimulative" not in found["best of six"]


def test_lambda_in_its_own_experiment(made: Path) -> None:
    found = verdicts(made.with_name("made-lambda"))
    assert found["lambda"].verdict == "holds" and found["lambda"].clarity == "within noise"
    assert "lambda 1 1.00 points" in found["lambda"].finding.measured
    assert "lambda 10 0.50 points" in found["lambda"].finding.measured


def test_nothing_there_is_not_measured_rather_than_failed(tmp_path: Path) -> None:
    found = verdicts(folders.experiment(tmp_path / "empty"))
    assert {claim.verdict for claim in found.values()} == {"not measured"}
    assert all(claim.finding.measured.startswith("missing: ") for claim in found.values())


def test_a_loss_does_not_hold(tmp_path: Path) -> None:
    folder = folders.experiment(tmp_path / "worse")
    same = dict.fromkeys(ORDERED, 900)
    folders.bundle(folder, "common", 900, sweeps={"ordered": same, "delete": dict.fromkeys(DELETED, 900)})
    folders.bundle(folder, "stimulative", 700, sweeps={"ordered": {**same, "1.4": 300}, "delete": dict.fromkeys(DELETED, 300)})
    found = verdicts(folder)
    assert (found["main"].verdict, found["main"].clarity) == ("does not hold", "clearly")
    assert found["every sub-network"].verdict == found["blocks deleted"].verdict == "does not hold"
    assert found["every sub-network"].finding.measured == "8 of 9 are; not: d1-1 (30.00 against 90.00)"
    assert found["one block deleted"].clarity == "clearly"
    assert found["deviation"].verdict == "not measured"  # common's own deviation is 0: there is no ratio
    assert found["time"].finding.measured == "missing: records of the epochs"


@pytest.mark.parametrize("row", CLAIMS, ids=lambda row: row[0])
def test_claims_are_sentences(row: tuple[str, str, str, object]) -> None:
    name, criterion, printed, _ = row
    assert criterion.endswith(".")
    assert criterion[0].isupper()
    assert printed
    assert "|" not in name + criterion + printed
