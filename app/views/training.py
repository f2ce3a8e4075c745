"""The page Training: loss and accuracy over the epochs (Fig. r2), lambda (Fig. r3), costs (Table r4) and runs in progress."""

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from app import session, sources
from app.chart import chart
from app.frame import Frame, footer, frame
from app.networks import trained_networks
from app.panels.training_cost import cost_tables
from app.text import plain
from stimcore.analysis import paper
from stimcore.analysis.comparisons import lambda_ablation
from stimcore.figures.ablation import lambda_figure
from stimcore.figures.style import Style, method_style
from stimcore.figures.trajectory import Trajectory
from stimcore.figures.trajectory import trajectories as trajectories_figure
from stimcore.serve.types import RunInfo

POLL_S, WATCH_S = 2.0, 10.0
"""Seconds between two polls of a run in progress; and between two questions whether one has begun."""
LEAD = (
    "How the networks were trained: accuracy on images they never train on, and the loss of the full network on those they do "
    "train on, after every epoch (one epoch = one pass over all training images). ★ marks the best epoch."
)


def run_style(run: RunInfo) -> Style:
    """Return how a run folder is drawn, which is no bundle yet."""
    state = "in progress" if run.active else "run"
    return replace(method_style(run.method), label=f"{run.name} ({state})", dash="dot")


def choose_runs(runs: Sequence[RunInfo], active: Sequence[str]) -> list[str]:
    """Draw the field that chooses run folders, and return their names; a run that has begun since is chosen by itself."""
    session.add_new_runs(active)
    if not runs:
        return []
    return st.multiselect(
        "Also show runs of this machine",
        [run.name for run in runs],
        default=list(active),
        key="runs",
        bind="query-params",
        placeholder="Runs that are not exported yet",
        help="Run folders that stimcore.train left on the server's machine. A run in progress is followed live.",
    )


def follow(here: Frame, chosen: Sequence[str], active: Sequence[str]) -> None:
    """Draw the trajectories; runs as a polled fragment. The whole page runs again when a run has begun or ended."""
    trajectories(here, chosen)
    if [run.name for run in sources.runs() if run.active] != list(active):
        st.rerun()


def trajectories(here: Frame, chosen: Sequence[str]) -> None:
    """Draw finished runs and the chosen run folders in one figure, and the progress of those that still run."""
    folders = {run.name: run for run in sources.runs()}
    shown = [folders[name] for name in chosen if name in folders]
    runs = [Trajectory(here.style(m), sources.training(here.experiment.name, m)) for m in here.methods]
    runs += [Trajectory(run_style(run), run.rows) for run in shown if run.rows]
    for run in runs:
        if not run.records:
            st.info(f"{plain(run.style.label)} has no training record: weights that were imported come without one.")
    for folder in shown:
        if folder.active:
            share = len(folder.rows) / folder.epochs if folder.epochs else 0.0
            st.progress(min(1.0, share), text=f"{plain(folder.name)}: epoch {len(folder.rows)} of {folder.epochs}")
        elif not folder.rows:
            st.caption(f"{plain(folder.name)} has not finished an epoch yet.")
    recorded = [run for run in runs if run.records]
    if recorded:
        chart(trajectories_figure(recorded), "trajectories", "Test accuracy and training loss over the epochs")


def ablation(here: Frame) -> None:
    """Draw accuracy over lambda (Fig. r3) from every stimulative bundle of the experiment."""
    st.subheader("How strongly to stimulate: λ", anchor=False)
    st.markdown(
        "λ is the weight of “a part must agree with the whole” against “the whole must be right”. λ = 0 would be "
        "common training."
    )
    runs = lambda_ablation(trained_networks(here.experiment, sweeps=False))
    if len(runs.points) > 1:
        chart(lambda_figure(runs), "lambda", "Accuracy of the full network over lambda")
    else:
        trained = f"Only λ = {runs.points[0][0]:g}" if runs.points else "No λ"
        st.info(
            f"{trained} was trained here so far. A curve needs more: train with other weights, export into this experiment."
        )
    best = "; ".join(f"{network} on {data}: {value:g}" for (network, data), value in paper.BEST_LAMBDA.items())
    st.caption(f"○ paper, Appendix E, best λ: {best}. The figure itself (r3) prints no numbers.")


def page() -> None:
    """Draw the page."""
    here = frame("Training", LEAD)
    runs = sources.runs()
    active = [run.name for run in runs if run.active]
    chosen = choose_runs(runs, active)
    live = any(name in active for name in chosen)
    st.fragment(follow, run_every=POLL_S if live else WATCH_S)(here, chosen, active)
    if not here.classroom:
        ablation(here)
        cost_tables(here)
        footer(here)


if __name__ == "__main__":
    page()
