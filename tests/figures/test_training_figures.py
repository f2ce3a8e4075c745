"""Figures r2, r3 and the Pareto figure: what is drawn is what was measured."""

import csv
import io

import pytest

from stimcore.analysis.comparisons import LambdaAblation, Option
from stimcore.analysis.networks import TrainedNetwork
from stimcore.figures.ablation import lambda_figure
from stimcore.figures.numbers import figure_csv
from stimcore.figures.pareto import describe_timing, pareto_figure
from stimcore.figures.style import STYLES
from stimcore.figures.trajectory import Trajectory, trajectories
from tests.analysis.made import record, result


def test_trajectories_star_the_best_epoch_and_skip_untested_ones() -> None:
    untested = {key: value for key, value in record(2, 1, 1, 1, loss=0.4).items() if key != "test"}
    records = [record(1, 1, 1, 1, 91, 0.5), untested, record(3, 1, 1, 1, 90, 0.3)]
    accuracy, star, loss = trajectories([Trajectory(STYLES["common"], records)]).data
    assert list(accuracy.x) == [1, 3]
    assert (list(star.x), list(star.y)) == ([1], [91])
    assert list(loss.y) == [0.5, 0.4, 0.3]
    assert not trajectories([]).data


def test_trajectories_compare_the_main_networks_cross_entropy() -> None:
    records = [record(1, 1, 1, 1, loss=0.9)]
    records[0]["losses"]["main_ce"] = 0.25
    assert list(trajectories([Trajectory(STYLES["stimulative"], records)]).data[2].y) == [0.25]


def test_ablation_has_intervals_a_log_axis_and_common_training_across() -> None:
    low, high, common = (
        TrainedNetwork(name="n", method="stimulative", depths=(1,), twin=False, main=result("1", correct))
        for correct in (800, 700, 750)
    )
    figure = lambda_figure(LambdaAblation([(0.5, low), (10.0, high)], common))
    line, legend = figure.data
    assert list(line.x) == [0.5, 10.0]
    assert list(line.y) == [80, 70]
    assert line.y[0] + line.error_y.array[0] == pytest.approx(result("1", 800).interval_pct[1])
    assert figure.layout.xaxis.type == "log"
    band, across = figure.layout.shapes
    assert across.y0 == 75
    assert (band.y0, band.y1) == pytest.approx(result("1", 750).interval_pct)
    assert legend.name == "Common training"
    assert [row["series"] for row in csv.DictReader(io.StringIO(figure_csv(figure)))] == ["Stimulative training"] * 2
    assert len(lambda_figure(LambdaAblation([(0.5, low), (10.0, high)], None)).data) == 1


def test_pareto_figure_has_front_budget_and_choice() -> None:
    options = [Option("a", 90, 3), Option("b", 80, 1), Option("c", 70, 2)]
    figure = pareto_figure([(STYLES["common"], options)], options[0], 4, "ms")
    points, front, chosen = figure.data
    assert list(points.x) == [3, 1, 2]
    assert list(front.x) == [1, 3]
    assert chosen.name == "chosen"
    assert figure.layout.shapes[0].x0 == 4
    assert {trace.hovertemplate.split("<extra>")[0] for trace in (points, front)} == {"%{text}<br>%{y:.1f} % right, %{x:,.3r}"}


def test_a_measured_time_names_its_device() -> None:
    on = {"provider": "CUDAExecutionProvider", "machine": "A100", "onnxruntime": "1.31.1", "calls": 40}
    assert "on the GPU (A100)" in describe_timing(on)
    assert "an unnamed machine" in describe_timing({})
    assert "here" not in describe_timing(on)  # whoever reads it may be at another machine
