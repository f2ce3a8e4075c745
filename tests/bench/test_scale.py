"""How cost grows: every curve is measured, in processes of their own, and divided by what it should grow with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stimcore.bench import __main__ as bench
from stimcore.bench import scale, scale_point
from stimcore.bench.performance import render
from stimcore.bundle import Bundle
from stimcore.errors import Unavailable


def test_memory_that_shrank_was_not_added(monkeypatch: pytest.MonkeyPatch) -> None:
    for now, added in ((199.85, 0.0), (203.5, 3.5)):
        monkeypatch.setattr(scale_point, "peak_mb", lambda now=now: now)
        assert scale_point._added_mb(200.0) == pytest.approx(added)


def test_a_point_counts_the_nodes_of_the_tree(small: list[Bundle]) -> None:
    point = scale_point.evaluate(str(small[0].path), "ordered", 8)
    assert point["subnetworks"] == 27
    # of ResNet-20: a stem, 3 + 9 + 27 blocks, 27 heads
    assert point["nodes"] == 1 + 39 + 27
    assert point["images"] == 8 + len(small[0].experiment.calibration)
    assert point["seconds"] > 0
    assert point["peak_mb"] >= point["added_mb"] >= 0


def test_copies_of_a_bundle_are_opened_as_a_catalogue(small: list[Bundle], tmp_path: Path) -> None:
    root = scale._catalogue(tmp_path / "catalogue", small[0].path, 3)
    assert scale_point.scan(str(root))["bundles"] == 3
    manifests = {(path.stat().st_ino, json.loads(path.read_text())["seed"]) for path in root.glob("*/*/manifest.json")}
    assert len(manifests) == 3
    assert json.loads((small[0].path / "manifest.json").read_text())["seed"] == small[0].manifest.seed


@pytest.mark.parametrize(("seconds", "rounds", "turns"), [(0.3, 1, 9), (1.1, 1, 5), (0.3, 12, 12), (80.0, 1, 1)])
def test_short_points_take_more_turns(monkeypatch: pytest.MonkeyPatch, seconds: float, rounds: int, turns: int) -> None:
    asked: list[Any] = []

    def ask(point: Mapping[str, Any]) -> dict[str, Any]:
        asked.append(point)
        return {"seconds": seconds - len(asked) / 1000, "peak_mb": 100 - len(asked), "added_mb": 0.0}

    monkeypatch.setattr(scale, "_ask", ask)
    measured = scale._measured({"images": 1}, rounds)
    assert measured == {"seconds": seconds - turns / 1000, "peak_mb": 99, "added_mb": 0.0, "turns": turns}


def test_a_point_that_fails_is_one_sentence() -> None:
    with pytest.raises(Unavailable, match="a point could not be measured"):
        scale._ask({"bundle": "/nowhere", "family": "ordered", "images": 1})


@pytest.mark.slow
def test_a_quick_run_measures_every_curve(tmp_path: Path) -> None:
    target = tmp_path / "scale.json"
    assert bench.main(["scale", "--quick", "--json", str(target)]) == 0
    report = json.loads(target.read_text(encoding="utf-8"))
    for name, curve in report["curves"].items():
        sizes = [point["size"] for point in curve]
        assert sizes == sorted(set(sizes)), name
        assert all(point["unit_us"] > 0 for point in curve)
        assert report["ratios"][f"{name}_time"] >= 1
    page = render({"scale": report})
    assert "**Tiny sizes" in page
    assert page.count("(images/scale-") == 4
