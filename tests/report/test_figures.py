"""Figures are the numbers that they were given, and nothing where there were none."""

import pytest

from stimcore.report.figures.ablation import ablation
from stimcore.report.figures.cloud import cloud
from stimcore.report.figures.damage import damage
from stimcore.report.figures.looks import LOOKS, look, order
from stimcore.report.figures.strips import strips
from stimcore.report.figures.trajectory import trajectory
from tests.report.folders import FULL, SIX
from tests.report.sweeps import record, row, sweep

ORDERED = sweep({"1.4": 700, "1-2.4": 800, FULL: 900}, FULL, 900)
DELETE = sweep({"1-3.4-5-6": 850, "1-2.4-5-6": 800, "1.4-5-6": 500}, FULL, 900, kind="delete")


def test_cloud_is_over_macs_or_blocks() -> None:
    (marks,) = cloud({"common": ORDERED}, {"1.4": 1_000_000, "1-2.4": 2_000_000, FULL: 5_000_000}).data
    assert list(marks.x) == [1, 2, 5] and list(marks.y) == [70, 80, 90]
    assert list(marks.marker.size) == [8, 8, 15]
    (marks,) = cloud({"common": ORDERED}, {}).data
    assert list(marks.x) == [2, 3, 6]


def test_strips_hold_every_point_and_the_main_network() -> None:
    box, bar = strips({"stimulative": ORDERED}).data
    assert sorted(box.y) == [70, 80, 90] and list(bar.y) == [90]


def test_damage_panels() -> None:
    bars, deleted = damage(SIX, {"common": {"delete": DELETE}}).data
    assert list(bars.x) == ["2", "3"] and list(bars.y) == pytest.approx([5, 10])
    assert list(deleted.y) == pytest.approx([7.5, 40])
    assert [point[3] for point in deleted.customdata] == [1, 2]
    assert bars.showlegend is None and deleted.showlegend is False


def test_damage_without_a_family_has_no_mark_and_still_a_name() -> None:
    permute = sweep({"2-1-3.4-5-6": 890}, FULL, 900, kind="permute")
    (only,) = damage(SIX, {"stimulative": {"permute": permute}}).data
    assert only.showlegend and list(only.y) == pytest.approx([1.0])
    assert not damage(SIX, {"stimulative": {}}).data


def test_methods_with_the_same_amount_stand_beside_each_other() -> None:
    drawn = damage(SIX, {"common": {"delete": DELETE}, "stimulative": {"delete": DELETE}}).data
    first, second = (trace for trace in drawn if trace.type == "scatter")
    assert all(a < b for a, b in zip(first.x, second.x, strict=True)) and first.x[0] + second.x[0] == pytest.approx(2)


def test_trajectory_stars_the_best_epoch_and_skips_untested_ones() -> None:
    untested = {key: value for key, value in record(2, 1, 1, 1, loss=0.4).items() if key != "test"}
    records = [record(1, 1, 1, 1, 91, 0.5), untested, record(3, 1, 1, 1, 90, 0.3)]
    accuracy, star, loss = trajectory({"common": records}).data
    assert list(accuracy.x) == [1, 3] and list(star.x) == [1] and list(star.y) == [91]
    assert list(loss.y) == [0.5, 0.4, 0.3]
    records[0]["losses"]["main_ce"] = 0.25
    assert trajectory({"stimulative": records}).data[2].y[0] == 0.25
    assert not trajectory({}).data


def test_ablation_is_sorted_by_lambda() -> None:
    line, base = ablation([(10.0, row("1", 700)), (0.5, row("1", 800))], row("1", 750)).data
    assert list(line.x) == [0.5, 10.0] and list(line.y) == [80, 70]
    assert base.name == "common"
    assert len(ablation([(1.0, row("1", 700))], None).data) == 1


def test_looks_are_apart() -> None:
    assert len({look.colour for look in LOOKS.values()}) == len({look.symbol for look in LOOKS.values()}) == 6
    assert len({look.dash for look in LOOKS.values()}) == 6
    assert order("common") == 0 and order("imported") == 6
    assert look("my_own").name == "my own"
