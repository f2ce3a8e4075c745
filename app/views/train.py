"""The page Train: start a training and watch it; trajectories (Fig. r2), lambda (Fig. r3) and costs (Table r4)."""

from collections.abc import Sequence

import streamlit as st

from app import notices, session
from app.chart import chart
from app.frame import Frame, footer, frame, tell_unknown
from app.language import words
from app.networks import related_experiments, trained_networks
from app.panels.run_list import fans, is_unfinished, run_rows, run_style
from app.panels.start_training import start_panel
from app.panels.training_cost import cost_tables
from app.sources import bundles, server, trainings
from app.text import plain
from app.watch import redraw_when_due
from stimcore.analysis import paper
from stimcore.analysis.comparisons import lambda_ablation
from stimcore.figures.ablation import lambda_figure
from stimcore.figures.trajectory import Trajectory
from stimcore.figures.trajectory import trajectories as trajectories_figure
from stimcore.serve.types import RunInfo

POLL_S, WATCH_S = 2.0, 10.0
"""Seconds between two polls of a run in progress; and between two questions whether one has begun."""
MAX_ROWS = 6
"""Runs with a line of their own, those in progress first."""
LEAD = (
    "Watch loafing appear: after every epoch, parts of the network are measured too. Common training opens a **fan** between "
    "them and the full network."
)


def choose_runs(runs: Sequence[RunInfo], active: Sequence[str]) -> list[str]:
    """Draw the field that chooses run folders, and return their names; a run that has begun since is chosen by itself."""
    session.add_new_runs(active)
    names, chosen = [run.name for run in runs], session.value("runs") or ()
    asked = st.query_params.get_all("runs")
    if unknown := [name for name in asked if name not in names and name not in chosen]:
        tell_unknown("runs", unknown[0])
    for sentence in notices.told("runs"):
        st.warning(sentence)
    if not runs:
        return []
    return st.multiselect(
        "Also show runs of this machine",
        names,
        default=list(active),
        key="runs",
        bind="query-params",
        placeholder="Runs that are not exported yet",
        help="Run folders on the server's machine. A run in progress is followed live.",
    )


def follow(here: Frame, chosen: Sequence[str], before: Sequence[tuple[str, str]]) -> None:
    """Draw runs, fans and trajectories as a polled fragment. The whole page runs again when a run has begun or ended."""
    runs = trainings.runs()
    if states(runs) != list(before):
        redraw_when_due()
    if notices.waiting("training"):
        st.rerun()  # a button of this fragment was refused, and the sentence stands outside
    trainer = session.memory(session.Trainer)
    if trainer.leave:
        trainer.leave = False
        st.switch_page("views/break_it.py")
    newest = latest(runs)
    shown = [run for run in runs if run.name in chosen and run not in newest] + newest
    rows = [run for run in runs if is_unfinished(run) and run not in shown] + shown
    run_rows(sorted(rows, key=lambda run: not is_unfinished(run))[:MAX_ROWS])
    fans(here, shown)
    trajectories(here, shown)


def latest(runs: Sequence[RunInfo]) -> list[RunInfo]:
    """Return the runs that the server made last: those of one experiment, which belong side by side."""
    made = [run for run in runs if run.managed]
    experiment = made[0].name.partition("/")[0] if made else ""
    return sorted((run for run in made if run.name.partition("/")[0] == experiment), key=lambda run: run.method)


def states(runs: Sequence[RunInfo]) -> list[tuple[str, str]]:
    """Return names and states of the runs that are unfinished."""
    return [(run.name, run.state) for run in runs if is_unfinished(run)]


def trajectories(here: Frame, shown: Sequence[RunInfo]) -> None:
    """Draw finished runs and the chosen run folders in one figure."""
    runs = [Trajectory(here.style(m), bundles.training(here.experiment.name, m)) for m in here.methods]
    runs += [Trajectory(run_style(run), run.rows) for run in shown if run.rows]
    for run in runs:
        if not run.records:
            st.info(f"{plain(run.style.label)} has no training record: weights that were imported come without one.")
    recorded = [run for run in runs if run.records]
    if recorded:
        st.markdown("**Accuracy on test images, and loss on training images**, after every epoch. ★ marks the best one.")
        chart(trajectories_figure(recorded), "trajectories", "Test accuracy and training loss over the epochs")


def ablation(here: Frame) -> None:
    """Draw accuracy over lambda (Fig. r3) from every stimulative bundle of the experiment."""
    st.subheader("How strongly to stimulate: λ", anchor=False)
    st.markdown(
        "λ is the weight of “a part must agree with the whole” against “the whole must be right”. λ = 0 would be "
        "common training."
    )
    related = related_experiments(here.experiment, server.catalogue().experiments)
    curves = [(one, lambda_ablation(trained_networks(one, sweeps=False))) for one in related]
    source, runs = max(curves, key=lambda curve: len(curve[1].points))
    if len(runs.points) > 1:
        chart(lambda_figure(runs), "lambda", "Accuracy of the full network over lambda")
        if source.name != here.experiment.name:
            st.caption(f"● measured here: the runs of {plain(source.name)}, the same network on the same images.")
    else:
        trained = f"Only λ = {runs.points[0][0]:g}" if runs.points else "No λ"
        st.info(
            f"{trained} was trained here so far. A curve needs more: train with other weights, export into this experiment."
        )
    best = "; ".join(f"{network} on {data}: {value:g}" for (network, data), value in paper.BEST_LAMBDA.items())
    st.caption(f"○ paper, Appendix E, best λ: {best}. The figure itself (r3) prints no numbers.")


def page() -> None:
    """Draw the page."""
    here = frame(words().say("page.train"), LEAD)
    runs, offer = trainings.runs(), trainings.training_offer()
    unfinished = states(runs)
    left, right = st.columns([1, 2], gap="medium")
    with left:
        if not here.classroom or offer.allowed:
            start_panel(offer)
        for sentence in notices.told("training"):
            st.error(sentence)
    with right:
        slot = st.container(key="runs_shown")
        chosen = choose_runs(runs, [name for name, _ in unfinished])
    with slot:
        st.fragment(follow, run_every=POLL_S if unfinished else WATCH_S)(here, chosen, unfinished)
    if not here.classroom:
        ablation(here)
        cost_tables(here)
        footer(here)


if __name__ == "__main__":
    page()
