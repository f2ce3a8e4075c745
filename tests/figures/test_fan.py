"""The fan of a training: what is drawn of whole, empty and broken records."""

from typing import Any

import pytest

from stimcore.figures.fan import MAIN, fan, fan_lines, fans, lowest_accuracy, opening
from stimcore.figures.style import method_style
from stimcore.figures.trajectory import Trajectory


def record(epoch: int, main: float, **parts: float) -> dict[str, Any]:
    watched = [{"name": n, "spec": "1-2.3", "accuracy_pct": a, "images": 2000} for n, a in parts.items()]
    return {"epoch": epoch, "test": {"accuracy_pct": main, "images": 10_000}, "watched": watched}


def test_every_network_is_a_line_with_its_depth_and_images() -> None:
    run = Trajectory(
        method_style("common"), [record(1, 60.0, smallest=20.0, half=40.0), record(2, 80.0, smallest=30.0, half=70.0)]
    )
    figure = fan(run, epochs=4, lowest=lowest_accuracy([run]))
    lines = {trace.name: list(trace.y) for trace in figure.data}
    assert lines[MAIN] == [60.0, 80.0]
    assert lines["one block per stage"] == [20.0, 30.0]
    assert lines["half of every stage"] == [40.0, 70.0]
    assert lines["between best and worst"] == [60.0, 80.0, 30.0, 20.0]
    (smallest,) = [trace for trace in figure.data if trace.name == "one block per stage"]
    assert list(smallest.customdata[0]) == ["3 blocks, 1-2.3<br>", "2,000"]
    assert tuple(figure.layout.yaxis.range) == (17.0, 100.0)
    assert tuple(figure.layout.xaxis.range) == (0.5, 4.5)
    assert opening(run.records) == 50.0


@pytest.mark.parametrize(
    "records",
    [
        [],
        [{}],
        [{"epoch": "1", "test": {"accuracy_pct": 1.0}}],
        [{"epoch": 1, "test": None, "watched": None}],
        [{"epoch": 1, "test": {"accuracy_pct": None}, "watched": [None, 3, {"name": "half"}]}],
        [{"epoch": None, "watched": "text"}],
    ],
)
def test_broken_records_are_left_out(records: list[dict[str, Any]]) -> None:
    assert fan_lines(records) == {}
    assert opening(records) is None
    assert lowest_accuracy([Trajectory(method_style("common"), records)]) == 0.0
    fan(Trajectory(method_style("common"), records), epochs=1, lowest=0.0)


def test_fans_side_by_side_share_their_axis() -> None:
    runs = [Trajectory(method_style(method), [record(1, 60.0, half=30.0)]) for method in ("common", "stimulative")]
    figure = fans(runs)
    assert [trace.xaxis for trace in figure.data] == ["x", "x", "x2", "x2"]
    assert tuple(figure.layout.yaxis.range) == tuple(figure.layout.yaxis2.range) == (27.0, 100.0)


def test_epochs_without_watched_parts_stay_part_of_the_line() -> None:
    scarce = [record(1, 50.0), record(2, 60.0, half=55.0), record(3, 70.0), record(4, 80.0, half=79.0)]
    assert [point.epoch for point in fan_lines(scarce)[MAIN]] == [1, 2, 3, 4]
    assert opening(scarce) == 1.0
    assert opening(scarce[:3]) == 5.0
