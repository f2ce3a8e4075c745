"""The numbers of figures as CSV: readable without the figure."""

from stimcore.figures.fan import fan
from stimcore.figures.numbers import figure_csv
from stimcore.figures.style import method_style
from stimcore.figures.trajectory import Trajectory, trajectories
from tests.figures.test_fan import record


def test_a_fan_has_plain_labels_and_titles_with_units() -> None:
    rows = figure_csv(fan(Trajectory(method_style("common"), [record(1, 60.0, smallest=20.0)]), epochs=4, lowest=0.0))
    assert rows.splitlines() == [
        "series,epoch,accuracy in %,label",
        'one block per stage,1,20.0,"3 blocks, 1-2.3, 2,000 images"',
        'full network,1,60.0,"10,000 images"',
    ]


def test_two_quantities_in_one_figure_are_told_apart() -> None:
    records = [{"epoch": 1, "losses": {"loss": 1.0 / 3}, "test": {"accuracy_pct": 89.82753047003504}}]
    header, *rows = figure_csv(trajectories([Trajectory(method_style("common"), records)])).splitlines()
    assert header == "series,epoch,value"
    assert "Common training: test accuracy in %,1,89.8275" in rows
    assert "Common training: loss: main loss in nats,1,0.333333" in rows
