"""Figures of ordered sub-networks: every result is drawn once, and nothing where there was none."""

import csv
import io
from typing import Any

import pytest

from stimcore.figures import method_sweep, nested_matrix, scatter, strip
from stimcore.figures.layout import clicked_spec
from stimcore.figures.method_sweep import MethodSweep
from stimcore.figures.numbers import INTERVAL, figure_csv
from stimcore.figures.style import STYLES
from stimcore.subnets.spec import Spec
from tests.analysis.made import FULL, result, sweep

COUNTS = {"1.4": 700, "1-2.4": 800, FULL: 900}
COMMON = MethodSweep(STYLES["common"], sweep(COUNTS, FULL, 900), {Spec.from_text("1.4"): "d1-1"})


def rows_of(figure: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(figure_csv(figure))))


def test_labels_have_room_on_a_telephone() -> None:
    """Turned labels of two lines lie over each other, and one long name leaves a matrix no room."""
    few, many = (strip.accuracy_strips([COMMON] * number).layout.xaxis.ticktext for number in (2, 12))
    assert set(few) == {"Common<br>training"}
    assert set(many) == {"Common training"}
    names = ["d2-3-6-4", "densenet-2-3-12-8-k12"]
    figure = nested_matrix.nested_matrix(names, {(names[0], names[1]): 75.8}, "measured here")
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        assert list(axis.tickvals) == names
        assert list(axis.ticktext) == ["d2-3-6-4", "densenet<br>2-3-12-8-k12"]


def test_strips_draw_every_sub_network_once_with_their_mean_and_ring_the_chosen_one() -> None:
    figure = strip.accuracy_strips([COMMON], Spec.from_text("1.4"))
    points, mean, star, ring = figure.data
    assert list(points.y) == [70.0, 80.0, 90.0]
    assert points.hovertext[0] == "d1-1, 2 blocks<br>70.0 % of 1,000 images right"
    assert list(mean.y) == [80.0]
    assert 0 < mean.error_y.arrayminus[0] < 5
    assert 0 < mean.error_y.array[0] < 5
    assert abs(mean.x[0]) > strip.JITTER, "beside the points"
    assert list(points.customdata) == list(COUNTS)
    assert points.text[:2] == ("d1-1", "1-2.4")
    assert list(star.y) == [90.0]
    assert list(ring.y) == [70.0]
    assert list(rows_of(figure)[0]) == ["series", "accuracy in %", "label", *INTERVAL], "places in a strip are no numbers"
    assert [(row["label"], row["accuracy in %"]) for row in rows_of(figure)] == [
        ("1.4", "70.0"),
        ("1-2.4", "80.0"),
        (FULL, "90.0"),
        ("", "80.0"),
        (FULL, "90.0"),
    ]


def test_large_families_are_sampled_for_drawing() -> None:
    results = [result("1", correct) for correct in range(1000)] * 2
    drawn = method_sweep.drawn_results(results)
    assert len(drawn) == method_sweep.MAX_POINTS
    assert drawn == method_sweep.drawn_results(results)
    assert len(method_sweep.drawn_results(results[:100])) == 100


def test_scatter_is_over_macs_or_blocks_with_intervals() -> None:
    macs = {Spec.from_text(spec): million * 1_000_000 for spec, million in zip(COUNTS, (1, 2, 5), strict=True)}
    (points,) = scatter.accuracy_over_cost([COMMON], macs).data
    assert list(points.x) == [1, 2, 5]
    assert list(points.y) == [70, 80, 90]
    assert list(points.marker.symbol) == ["diamond", "diamond", "star"]
    assert points.y[0] + points.error_y.array[0] == pytest.approx(result("1", 700).interval_pct[1])
    (points,) = scatter.accuracy_over_cost([COMMON], {}, Spec.from_text("1-2.4")).data
    assert list(points.x) == [2, 3, 6]
    assert list(points.marker.size) == [8, 15, 17]


def test_scatter_of_many_hides_bars_and_keeps_them_in_the_csv() -> None:
    many = MethodSweep(STYLES["common"], sweep({f"{i}": 500 for i in range(1, scatter.MAX_BARS + 2)}, "1", 500))
    figure = scatter.accuracy_over_cost([many], {})
    assert figure.data[0].error_y.visible is False
    assert all(float(row[INTERVAL[0]]) < 50 < float(row[INTERVAL[1]]) for row in rows_of(figure))


def test_matrix_leaves_the_lower_left_blank_and_prints_numbers() -> None:
    cells = {("a", "a"): 70.0, ("a", "b"): 20.5, ("b", "b"): 80.0}
    figure = nested_matrix.nested_matrix(["a", "b"], cells, "paper")
    assert figure.data[0].z[1][0] is None
    assert [each.text for each in figure.layout.annotations] == ["70.0", "20.5", "80.0"]
    assert figure.layout.yaxis.autorange == "reversed"
    assert [(row["main network it sits in"], row["sub-network"], row["accuracy in %"]) for row in rows_of(figure)] == [
        ("a", "a", "70.0"),
        ("b", "a", "20.5"),
        ("b", "b", "80.0"),
    ]


def test_a_click_names_a_spec() -> None:
    assert clicked_spec({"selection": {"points": [{"customdata": "1.2"}]}}) == "1.2"
    assert clicked_spec({"selection": {"points": [{"customdata": ["1.2"]}]}}) == "1.2"


@pytest.mark.parametrize("event", [None, {}, {"selection": {"points": []}}, {"selection": {"points": [{}]}}])
def test_a_click_beside_every_point_names_none(event: Any) -> None:
    assert clicked_spec(event) == ""
