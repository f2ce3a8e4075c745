"""Figures without Streamlit: what is drawn is what was measured."""

import csv
import io
import math
from typing import Any

import pytest

from stimcore.analysis.intervals import wilson
from stimcore.analysis.loafing import Spread
from stimcore.figures import damage, pareto, subnetworks, training
from stimcore.figures.base import plotted
from stimcore.figures.style import STYLES, style, tint
from stimcore.serve.types import MethodInfo, Result
from stimcore.subnets.families import ordered
from stimcore.subnets.topology import Topology

TOPOLOGY = Topology.of("toy", [2, 3], {3: "no skip path"})


def row(spec: str, correct: int, main: int = 900, images: int = 1000) -> dict[str, Any]:
    """A result as the server sends it."""
    drop = (main - correct) / images * 100
    return {
        "spec": spec,
        "correct": correct,
        "images": images,
        "accuracy_pct": 100 * correct / images,
        "interval_pct": wilson(correct, images),
        "drop_pct": drop,
        "drop_interval_pct": (drop - 1, drop + 1),
    }


def sweep() -> dict[str, Any]:
    specs = [str(spec) for spec in ordered(TOPOLOGY)]
    return {"main": row(specs[-1], 900), "images": 1000, "results": [row(s, 600 + 50 * i) for i, s in enumerate(specs)]}


def rows_of(figure: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(plotted(figure))))


def test_distribution_draws_every_sub_network_once() -> None:
    found = sweep()
    family = subnetworks.Family(STYLES["common"], found, {})
    figure = subnetworks.distribution([family], found["results"][0]["spec"])
    points = next(t for t in figure.data if t.type == "scatter" and t.marker.symbol == "diamond")
    assert sorted(points.y) == sorted(r["accuracy_pct"] for r in found["results"])
    assert list(points.customdata) == [r["spec"] for r in found["results"]]
    star = next(t for t in figure.data if t.type == "scatter" and t.marker.symbol == "star")
    assert list(star.y) == [90.0]
    assert [r for r in rows_of(figure) if r["series"] == "Common training"][0]["label"] == found["results"][0]["spec"]


def test_large_families_are_sampled_for_drawing() -> None:
    many = [row(f"{i}", i % 1000) for i in range(5000)]
    assert len(subnetworks.shown(many)) == subnetworks.DRAWN and subnetworks.shown(many) == subnetworks.shown(many)
    assert len(subnetworks.shown(many[:100])) == 100


def test_against_cost_uses_macs_or_blocks() -> None:
    family = subnetworks.Family(STYLES["common"], sweep(), {})
    figure = subnetworks.against_cost([family], {})
    assert list(figure.data[0].x) == [2, 3, 4, 3, 4, 5]
    macs = {r["spec"]: 1_000_000 * (i + 1) for i, r in enumerate(sweep()["results"])}
    assert list(subnetworks.against_cost([family], macs).data[0].x) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_matrix_leaves_the_lower_left_blank_and_prints_numbers() -> None:
    figure = subnetworks.matrix(["a", "b"], {("a", "a"): 70.0, ("a", "b"): 20.5, ("b", "b"): 80.0}, "paper")
    assert figure.data[0].z[1][0] is None
    assert [a.text for a in figure.layout.annotations] == ["70.0", "20.5", "80.0"]
    assert figure.layout.yaxis.autorange == "reversed"
    assert [(r["x"], r["y"], r["label"]) for r in rows_of(figure)] == [
        ("a", "a", "70.0"),
        ("b", "a", "20.5"),
        ("b", "b", "80.0"),
    ]


def test_pick_reads_a_click() -> None:
    assert subnetworks.pick({"selection": {"points": [{"customdata": "1.2"}]}}) == "1.2"
    assert subnetworks.pick({"selection": {"points": [{"customdata": ["1.2"]}]}}) == "1.2"
    for nothing in (None, {}, {"selection": {"points": []}}, {"selection": {"points": [{}]}}):
        assert subnetworks.pick(nothing) == ""


def test_single_deletions_have_intervals_and_gaps() -> None:
    series = damage.Series(STYLES["common"], singles=[(2, row("1.3-4-5", 800)), (5, row("1-2.3-4", 850))])
    figure = damage.singles([series], TOPOLOGY.fixed, 5, 5)
    bars = figure.data[0]
    assert list(bars.x) == [2, 5] and list(bars.y) == [10.0, 5.0]
    assert list(bars.error_y.array) == [1.0, 1.0]
    assert figure.layout.xaxis.ticktext[2] == "3 🔒" and list(bars.marker.line.width) == [0, 3]
    assert [(r["x"], r["y"], r["low"], r["high"]) for r in rows_of(figure)] == [
        ("2", "10.0", "9.0", "11.0"),
        ("5", "5.0", "4.0", "6.0"),
    ]


def test_curves_show_median_and_range() -> None:
    spreads = [Spread(1, 3, 0.0, 2.0, 5.0, row("1.3", 1)), Spread(2, 1, 7.0, 7.0, 7.0, row("1.3", 1))]
    figure = damage.curve([damage.Series(STYLES["stimulative"], spreads=spreads)], "deleted blocks")
    band, line = figure.data
    assert list(band.y) == [5.0, 7.0, 7.0, 0.0] and list(line.y) == [2.0, 7.0]
    assert [(r["low"], r["high"]) for r in rows_of(figure)] == [("0.0", "5.0"), ("7.0", "7.0")]


def test_trajectories_star_the_best_and_skip_untested_epochs() -> None:
    rows = [
        {"epoch": 1, "losses": {"loss": 2.0}, "test": {"accuracy_pct": 50.0}},
        {"epoch": 2, "losses": {"loss": 1.0}},
        {"epoch": 3, "losses": {"loss": 0.5}, "test": {"accuracy_pct": 40.0}},
    ]
    assert training.accuracies(rows) == [(1, 50.0), (3, 40.0)]
    figure = training.trajectories([training.Run(STYLES["common"], rows)])
    star = next(t for t in figure.data if t.marker.symbol == "star")
    assert (list(star.x), list(star.y)) == ([1], [50.0])
    loss = next(t for t in figure.data if t.name.endswith("loss"))
    assert list(loss.y) == [2.0, 1.0, 0.5]


def test_ablation_is_ordered_on_a_log_axis() -> None:
    points = [training.LambdaPoint(v, 90.0 + v, (89.0 + v, 91.0 + v)) for v in (10.0, 1.0)]
    figure = training.ablation(points, 88.0, STYLES["stimulative"], STYLES["common"])
    assert list(figure.data[0].x) == [1.0, 10.0] and figure.layout.xaxis.type == "log"
    assert figure.layout.shapes[0].y0 == 88.0


def option(accuracy: float, cost: float) -> pareto.Option:
    return pareto.Option("common", "f", "1", "d1", accuracy, cost)


def test_pareto_front_and_budget() -> None:
    options = [option(90, 3), option(80, 1), option(70, 2), option(90, 4), option(85, 2)]
    assert [(o.accuracy_pct, o.cost) for o in pareto.front(options)] == [(80, 1), (85, 2), (90, 3)]
    best = pareto.within(options, 4)
    assert best and (best.accuracy_pct, best.cost) == (90, 3)
    assert pareto.within(options, 0.5) is None and pareto.front([]) == []
    figure = pareto.chart([(STYLES["common"], options)], best, 4, "ms")
    assert figure.layout.shapes[0].x0 == 4 and figure.data[-1].name == "chosen"


def test_palette_is_legible_on_both_themes() -> None:
    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return math.fsum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for look in STYLES.values():
        for ground in ("#FFFFFF", "#191817"):
            high, low = sorted((luminance(look.color), luminance(ground)), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 3, (look.label, ground)
    assert len({s.symbol for s in STYLES.values()}) == len({s.dash for s in STYLES.values()}) == len(STYLES)
    assert tint("#0072B2", 0.5) == "rgba(0,114,178,0.5)"


@pytest.mark.parametrize(
    ("name", "method", "label"),
    [
        ("common", "common", "Common training"),
        ("stimulative-lambda5", "stimulative", "Stimulative training (λ = 5)"),
        ("my_weights", "imported", "my weights"),
    ],
)
def test_style_names_a_bundle(name: str, method: str, label: str) -> None:
    result = Result(**row("1.3", 900))
    info = MethodInfo(
        name=name, method=method, label="", spec=None, topology=TOPOLOGY.to_dict(), seed=0, recipe={}, options={}, machine={},
        fingerprint="", main=result, parameters=1, macs=1, num_networks=1, sweeps=(),
    )  # fmt: skip
    assert style(info).label == label


def test_what_a_measured_time_is() -> None:
    on = {
        "provider": "CPUExecutionProvider",
        "threads": 1,
        "machine": "x86_64",
        "cores": 2,
        "onnxruntime": "1.31.1",
        "calls": 40,
    }
    assert pareto.timing(on) == (
        "Median time for one image, measured here on 1 of 2 cores (x86_64) with onnxruntime 1.31.1, 40 calls each."
    )
    assert "on the GPU (A100)" in pareto.timing({**on, "provider": "CUDAExecutionProvider", "machine": "A100"})
