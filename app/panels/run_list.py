"""Runs on the server's machine: how far each is, what can be done with it, and their fans."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import streamlit as st

from app import notices, session
from app.chart import chart
from app.frame import Frame
from app.panels.start_training import may_train, order, title
from app.sources import bundles, server
from app.text import plain
from stimcore.figures.fan import fan, fan_lines, lowest_accuracy, opening
from stimcore.figures.style import Style, method_style
from stimcore.figures.trajectory import Trajectory
from stimcore.serve.types import RunInfo

UNFINISHED = ("queued", "training", "exporting")
MAX_FANS = 4
"""Fans side by side; the newest runs come first."""
SENTENCES = {
    "queued": "waits",
    "exporting": "trained; exporting and measuring its sub-networks",
    "done": "finished",
    "stopped": "stopped",
    "failed": "failed",
}


def is_unfinished(run: RunInfo) -> bool:
    """Return whether a run waits, trains or is exported."""
    return run.active or run.state in UNFINISHED


def run_style(run: RunInfo) -> Style:
    """Return how a run folder is drawn, which is no bundle yet."""
    state = "in progress" if run.active else "run"
    return replace(method_style(run.method), label=f"{run.name} ({state})", dash="dot")


def run_rows(runs: Sequence[RunInfo]) -> None:
    """Draw a line for every run, with its buttons where this visitor may use them."""
    allowed = may_train()
    for run in runs:
        with st.container(key=f"run {run.name}", horizontal=True, vertical_alignment="center", gap="small"):
            _progress(run)
            if run.managed and allowed:
                _buttons(run)
            if run.bundle:
                st.button("Open in Break it", key=f"open {run.name}", type="primary", on_click=_choose, args=(run,))


def fans(here: Frame, runs: Sequence[RunInfo]) -> None:
    """Draw the fans of runs, or of the experiment's networks where no run is shown.

    Args:
        here: The page.
        runs: Runs to show.
    """
    drawn = [(run.epochs, Trajectory(_fan_style(run), run.rows)) for run in runs if fan_lines(run.rows)][:MAX_FANS]
    if not drawn:
        stored = [(method, bundles.training(here.experiment.name, method)) for method in here.methods]
        drawn = [(len(rows), Trajectory(here.style(method), rows)) for method, rows in stored if fan_lines(rows)][:MAX_FANS]
        if drawn and all(opening(run.records) is None for _, run in drawn):
            return  # trained before sub-networks were watched: the figure below has the same lines
    if not drawn:
        return
    lowest = lowest_accuracy([run for _, run in drawn])
    for column, (epochs, run) in zip(st.columns(len(drawn), gap="small"), drawn, strict=True):
        with column:
            st.markdown(_heading(run))
            key = f"fan_{run.style.label}"
            chart(
                fan(run, epochs=epochs, lowest=lowest),
                key,
                f"Accuracy of {run.style.label} and of watched parts over the epochs",
            )


def _heading(run: Trajectory) -> str:
    open_by = opening(run.records)
    width = "" if open_by is None else f": the fan is open by **{open_by:.0f} points**"
    return f"{run.style.glyph} {plain(run.style.label)}{width}"


def _fan_style(run: RunInfo) -> Style:
    """Return how a run is drawn; no two runs of the server have the same label: lambda and another seed stand in it.

    Example:
        >>> from stimcore.serve.types import RunInfo
        >>> names = ("stimulative-0", "stimulative-lambda5-0", "stimulative-1")
        >>> given = {"method": "stimulative", "epochs": 3, "rows": (), "active": False, "managed": True}
        >>> runs = [RunInfo(name=f"mine/{name}", **given) for name in names]
        >>> [_fan_style(run).label for run in runs]
        ['Stimulative training', 'Stimulative training (λ = 5)', 'Stimulative training, seed 1']
    """
    folder = run.name.partition("/")[2]
    if not run.managed:
        style = method_style(run.method)
        return replace(style, label=f"{style.label or run.method} ({run.name})")
    base, _, seed = folder.rpartition("-")
    style = method_style(run.method, base)
    return style if seed == "0" else replace(style, label=f"{style.label}, seed {seed}")


def _progress(run: RunInfo) -> None:
    label = _fan_style(run).label
    what = plain(run.name) if not run.managed else plain(f"{title(run.network)}, {label[:1].lower()}{label[1:]}")
    seconds = _seconds_left(run.rows, run.epochs)
    done = len(run.rows)
    if run.active or run.state == "training":
        left = f", {seconds} left" if seconds else ""
        share = done / run.epochs if run.epochs else 0.0
        st.progress(min(1.0, share), text=f"{what}: epoch {done} of {run.epochs}{left}")
        return
    sentence = SENTENCES.get(run.state, "has not finished an epoch yet" if not run.rows else "")
    after = f" after epoch {done} of {run.epochs}" if run.state == "stopped" else ""
    reason = f": {plain(run.message.rstrip('.'))}" if run.message else ""
    if run.state == "failed":
        st.error(f"{what} {sentence}{reason}.")
    else:
        st.markdown(f"{what} {sentence}{after}{reason}.", width="stretch")


def _seconds_left(rows: Sequence[Mapping[str, object]], epochs: int) -> str:
    """Return the time that a run still needs, in words, from its last epochs; empty before the first."""
    parts = ("seconds", "checkpoint_seconds", "evaluate_seconds", "watch_seconds")
    recent = [sum(v for p in parts if isinstance(v := row.get(p), int | float)) for row in rows[-5:]]
    if not recent or epochs <= len(rows):
        return ""
    seconds = (epochs - len(rows)) * sum(recent) / len(recent)
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {max(1, round(seconds))} s"


def _buttons(run: RunInfo) -> None:
    if run.state in UNFINISHED:
        st.button("Stop", key=f"stop {run.name}", on_click=order, args=("stop", run.name), icon=":material/stop:")
    elif run.state in ("stopped", "failed"):
        st.button(
            "Continue", key=f"continue {run.name}", on_click=order, args=("continue", run.name), icon=":material/play_arrow:"
        )


def _choose(run: RunInfo) -> None:
    """Choose the experiment of a finished run, and have the page that is drawn next lead to Break it."""
    experiment = run.bundle.partition("/")[0]
    if server.serves(experiment):
        session.choose_experiment(experiment)
        session.memory(session.Trainer).leave = True
    else:
        notices.tell("training", "The server opens the new networks at this moment. Try again in a few seconds.")
