"""The benchmarks of engine and exporter run, and report what others quote."""

import json
from pathlib import Path
from typing import Any

import pytest

from stimcore import cli
from stimcore.bench import __main__ as bench
from stimcore.bundle import Bundle


def report(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    target = tmp_path / "report.json"
    assert bench.main([*arguments, "--json", str(target)]) == 0
    measured: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    assert measured["machine"]["cores"]
    assert measured["n"] >= 1
    return measured


def test_edit_waits_longer_for_all_images_than_for_the_first(small: list[Bundle], tmp_path: Path) -> None:
    measured = report(tmp_path, "edit", "--bundle", str(small[0].path), "--rounds", "1", "--device", "cpu")
    assert set(measured["edit_all_by_block"]) == {str(block) for block in small[0].topology.removable}
    for block, seconds in measured["edit_first_by_block"].items():
        assert 0 < seconds <= measured["edit_all_by_block"][block]
    assert measured["seconds"]["edit_first_worst"] >= measured["seconds"]["edit_first_median"] > 0


def test_sweep_counts_the_tree_and_its_floor(tmp_path: Path) -> None:
    sizes = ("--images", "8", "--calibration", "8", "--rounds", "1", "--sample", "1", "--pixels", "8")
    measured = report(tmp_path, "sweep", "--network", "resnet20", *sizes)
    assert measured["subnetworks"] == 27
    assert 2 < measured["tree_over_main_macs"] < 27
    assert set(measured["ratios"]) == {"torch_one_by_one", "onnxruntime_one_by_one", "floor"}


def test_export_shares_one_store(tmp_path: Path) -> None:
    measured = report(tmp_path, "export", "--network", "resnet20", "--pixels", "8", "--sample", "2")
    assert measured["bytes_main"] < measured["bytes_shared"] < measured["bytes_standalone"]


@pytest.mark.parametrize(
    "arguments",
    [("edit", "--rounds", "0"), ("edit", "--bundle", "nowhere"), ("sweep", "--images", "0"), ("smoke", "--steps", "0")],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(bench.main, arguments)
    assert ended.value.code in (1, 2)
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
