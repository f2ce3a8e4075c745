"""The fan of a training: the accuracy of the full network and of watched parts of it, epoch by epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from stimcore.figures.layout import apply_layout
from stimcore.figures.style import Style, tint
from stimcore.figures.trajectory import Records, Trajectory

MAIN = "full network"
NAMES = {"smallest": "one block per stage", "half": "half of every stage"}
"""Names of watched sub-networks in `training.jsonl` -> their names for a reader."""
HEIGHT_PX = 250


@dataclass(frozen=True)
class Point:
    """One measurement of one network during training.

    Attributes:
        epoch: After which epoch, counted from 1.
        accuracy_pct: Accuracy in [0, 100].
        images: Test images that it was measured on.
        spec: Long form of the sub-network; empty for the full network.
    """

    epoch: int
    accuracy_pct: float
    images: int
    spec: str = ""


def fan_lines(records: Records) -> dict[str, list[Point]]:
    """Return the measurements of every network, the full one first; a record that a program has broken is left out.

    Example:
        >>> record = {"epoch": 1, "test": {"accuracy_pct": 80.0, "images": 100},
        ...           "watched": [{"name": "smallest", "spec": "1.4", "accuracy_pct": 30.0, "images": 50}]}
        >>> {name: [(p.epoch, p.accuracy_pct) for p in points] for name, points in fan_lines([record]).items()}
        {'full network': [(1, 80.0)], 'one block per stage': [(1, 30.0)]}
    """
    lines: dict[str, list[Point]] = {MAIN: []}
    for record in records:
        epoch = record.get("epoch")
        if not isinstance(epoch, int):
            continue
        _add(lines, MAIN, epoch, record.get("test") or record.get("holdout"))
        watched = record.get("watched")
        for subnet in watched if isinstance(watched, Sequence) else ():
            if isinstance(subnet, Mapping):
                name = str(subnet.get("name", ""))
                _add(lines, NAMES.get(name, name), epoch, subnet)
    return {name: points for name, points in lines.items() if points}


def opening(records: Records) -> float | None:
    """Return how far the fan is open at its last measurement: the points between the full network and the worst watched part.

    Example:
        >>> opening([{"epoch": 1, "test": {"accuracy_pct": 80.0}, "watched": [{"name": "half", "accuracy_pct": 75.5}]}])
        4.5
    """
    lines = fan_lines(records)
    main = {point.epoch: point.accuracy_pct for point in lines.pop(MAIN, ())}
    measured = {point.epoch for points in lines.values() for point in points} & set(main)
    if not measured:
        return None
    last = max(measured)
    return main[last] - min(point.accuracy_pct for points in lines.values() for point in points if point.epoch == last)


def lowest_accuracy(runs: Sequence[Trajectory]) -> float:
    """Return the smallest accuracy of several fans, so that they can share an axis; 0 where nothing was measured."""
    return min((p.accuracy_pct for run in runs for line in fan_lines(run.records).values() for p in line), default=0.0)


def fan(run: Trajectory, *, epochs: int, lowest: float) -> go.Figure:
    """Return the fan of one training: a thick line for the full network, thin ones for watched parts, a band between them.

    Args:
        run: The training.
        epochs: Epochs of the whole training, so that the figure of one in progress fills from the left.
        lowest: Lower end of the axis in percent, the same for fans that stand side by side.
    """
    figure = go.Figure(_traces(run))
    apply_layout(figure, x="epoch", y="accuracy in %", height=HEIGHT_PX)
    figure.update_layout(height=HEIGHT_PX, showlegend=False, margin={"t": 12})
    figure.update_xaxes(range=[0.5, epochs + 0.5], dtick=1 if epochs <= 12 else None)
    figure.update_yaxes(range=[max(0.0, lowest - 3.0), 100.0])
    return figure


def fans(runs: Sequence[Trajectory]) -> go.Figure:
    """Return the fans of several trainings side by side on one axis, for a page that does not arrange them itself."""
    figure = make_subplots(rows=1, cols=len(runs), shared_yaxes=True, subplot_titles=[run.style.label for run in runs])
    for column, run in enumerate(runs, 1):
        figure.add_traces(_traces(run), rows=1, cols=column)
    apply_layout(figure, x="", y="", height=HEIGHT_PX)
    figure.update_layout(height=HEIGHT_PX + 60, showlegend=False)
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(range=[max(0.0, lowest_accuracy(runs) - 3.0), 100.0])
    figure.update_yaxes(title_text="accuracy in %", col=1)
    return figure


def _traces(run: Trajectory) -> list[go.Scatter]:
    """Return what is drawn of one training, what is in front last."""
    lines = fan_lines(run.records)
    main = lines.pop(MAIN, [])
    band = _band(run.style, main, list(lines.values()))
    parts = [_line(run.style, name, points, main=False) for name, points in lines.items()]
    return [*band, *parts, _line(run.style, MAIN, main, main=True)]


def _add(lines: dict[str, list[Point]], name: str, epoch: int, value: Any) -> None:
    """Add a measurement in the form of `stimcore.train.watch.accuracy_record`, if it is one."""
    if isinstance(value, Mapping) and isinstance(accuracy := value.get("accuracy_pct"), int | float):
        point = Point(epoch, float(accuracy), int(value.get("images") or 0), str(value.get("spec", "")))
        lines.setdefault(name, []).append(point)


def _line(style: Style, name: str, points: Sequence[Point], *, main: bool) -> go.Scatter:
    depth = [f"{sum(len(stage.split('-')) for stage in p.spec.split('.'))} blocks, {p.spec}" if p.spec else "" for p in points]
    return go.Scatter(
        x=[point.epoch for point in points],
        y=[point.accuracy_pct for point in points],
        customdata=[[f"{text}<br>" if text else "", f"{p.images:,}"] for text, p in zip(depth, points, strict=True)],
        text=[", ".join(filter(None, (text, f"{p.images:,} images"))) for text, p in zip(depth, points, strict=True)],
        mode="lines+markers",
        name=name,
        line={"color": style.color, "width": 3.5 if main else 1.2, "dash": "solid" if main else "dot"},
        marker={"symbol": style.symbol, "size": 8 if main else 4, "color": style.color},
        hovertemplate="%{customdata[0]}epoch %{x}: %{y:.1f} % of %{customdata[1]} images<extra>" + name + "</extra>",
    )


def _band(style: Style, main: Sequence[Point], parts: Sequence[Sequence[Point]]) -> list[go.Scatter]:
    """Return what lies between the best and the worst network, at every epoch at which parts were measured; else nothing."""
    by_epoch: dict[int, list[float]] = {}
    for points in (main, *parts):
        for point in points:
            by_epoch.setdefault(point.epoch, []).append(point.accuracy_pct)
    epochs = sorted(epoch for epoch, values in by_epoch.items() if len(values) > 1)
    if len(epochs) < 2:
        return []
    band = go.Scatter(
        x=[*epochs, *reversed(epochs)],
        y=[*(max(by_epoch[epoch]) for epoch in epochs), *(min(by_epoch[epoch]) for epoch in reversed(epochs))],
        fill="toself",
        fillcolor=tint(style.color, 0.16),
        mode="none",
        name="between best and worst",
        hoverinfo="skip",
    )
    return [band]
