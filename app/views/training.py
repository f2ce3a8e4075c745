"""Training: how loss and accuracy went (Fig. r2), what lambda does (Fig. r3), what it cost (Table r4), and runs in progress."""

import streamlit as st

from app import sources
from app.frame import Frame, footer, frame
from app.show import show
from stimcore.analysis import loafing, paper
from stimcore.figures import training as figures
from stimcore.figures.style import OTHER, STYLES, Style
from stimcore.serve.types import MethodInfo, RunInfo

S = st.session_state
POLL_S, LOOK_S = 2.0, 10.0
"""How often a run in progress is followed; and how often the page looks whether one has begun."""
LEAD = (
    "How the networks were trained: accuracy on images they never train on, and the training loss, after every epoch "
    "(one epoch = one pass over all training images). ★ marks the best epoch."
)


def run_style(run: RunInfo) -> Style:
    """The look of a run that is no bundle yet."""
    base = STYLES.get(run.method, OTHER)
    return Style(f"{run.name} ({'in progress' if run.active else 'run'})", base.color, base.symbol, base.glyph, "dot")


def trajectories(here: Frame, chosen: list[str]) -> None:
    """Finished runs and chosen run folders in one figure."""
    runs = [figures.Run(here.style(m), sources.training(here.experiment.name, m)) for m in here.methods]
    others = {run.name: run for run in sources.runs()}
    for name in chosen:
        if name in others and others[name].rows:
            runs.append(figures.Run(run_style(others[name]), others[name].rows, others[name].active))
    known = [run for run in runs if run.rows]
    for run in runs:
        if not run.rows:
            st.info(f"{run.style.label} left no training record: weights that were imported have none.")
    for name in chosen:
        info = others.get(name)
        if info and info.active:
            share = len(info.rows) / info.epochs if info.epochs else 0.0
            st.progress(min(1.0, share), text=f"{name}: epoch {len(info.rows)} of {info.epochs}")
        elif info and not info.rows:
            st.caption(f"{name} has not finished an epoch yet.")
    if known:
        show(figures.trajectories(known), "trajectories", "Test accuracy and training loss over the epochs")


def followed(here: Frame, chosen: list[str], active: list[str]) -> None:
    """The figure; the page runs again when a run has begun or ended."""
    trajectories(here, chosen)
    if [run.name for run in sources.runs() if run.active] != active:
        st.rerun()


def lambdas(here: Frame) -> None:
    """Fig. r3 from every stimulative bundle of the experiment."""
    st.subheader("How strongly to stimulate: λ", anchor=False)
    st.markdown(
        "λ says how much “a part must agree with the whole” counts beside “the whole must be right”. λ = 0 "
        "would be common training."
    )
    stimulative = [m for m in here.experiment.methods if m.method == "stimulative" and m.spec is None and "weight" in m.options]
    common = next((m for m in here.experiment.methods if m.method == "common" and m.spec is None), None)
    points = [
        figures.LambdaPoint(float(m.options["weight"]), m.main.accuracy_pct, m.main.interval_pct)
        for m in stimulative
        if float(m.options["weight"]) > 0
    ]
    if len(points) > 1:
        figure = figures.ablation(points, common.main.accuracy_pct if common else None, STYLES["stimulative"], STYLES["common"])
        show(figure, "lambda", "Accuracy of the full network over lambda")
    else:
        trained = f"λ = {points[0].value:g}" if points else "No λ"
        st.info(
            f"{trained} was trained here so far. A curve needs more: train with other weights, export into this experiment."
        )
    best = "; ".join(f"{network} on {data}: {value:g}" for (network, data), value in paper.BEST_LAMBDA.items())
    st.caption(f"○ paper, Appendix E, best λ: {best}. The figure itself (r3) prints no numbers.")


def costs(here: Frame) -> None:
    """Table r4 and what was measured."""
    st.subheader("What it costs", anchor=False)
    measured: list[tuple[MethodInfo, loafing.Cost]] = []
    for method in here.methods:
        found = loafing.training_cost(sources.training(here.experiment.name, method))
        if found:
            measured.append((method, found))
    base = next((cost for method, cost in measured if method.method == "common"), None)
    rows = []
    for method, cost in measured:
        ratio = f"{cost.cpu_seconds.value / base.cpu_seconds.value:.2f} ×" if base and base.cpu_seconds.value else "–"
        rows.append(
            {
                "Method": f"{here.style(method).glyph} {here.style(method).label}",
                "● seconds per epoch": f"{cost.seconds.value:.0f} ({cost.seconds.low:.0f} to {cost.seconds.high:.0f})",
                "● processor time, over common": ratio,
                "● largest memory": f"{cost.memory_mib:,.0f} MiB",
                "● epochs": str(cost.epochs),
            }
        )
    if rows:
        st.table(rows, border="horizontal")
        machines = sorted({str(m.machine.get("device") or m.machine.get("processor") or "this machine") for m, _ in measured})
        st.caption(f"● measured here ({', '.join(machines)}); median epoch, smallest to largest in brackets.")
    st.markdown("**○ printed in the paper (Table r4)**")
    st.table(
        [
            {
                "Network": f"{c.network}, {c.dataset}",
                "common": f"{c.common_hours:.2f} h, {c.common_mib:,} MiB",
                "stimulative": f"{c.stimulative_hours:.2f} h, {c.stimulative_mib:,} MiB",
                "time ratio": f"{c.stimulative_hours / c.common_hours:.2f} ×",
            }
            for c in paper.TABLE_R4
        ],
        border="horizontal",
    )


def page() -> None:
    """Draws the page."""
    here = frame("Training", LEAD)
    runs = sources.runs()
    active = [run.name for run in runs if run.active]
    begun = [name for name in active if name not in S.get("known runs", active)]
    S["known runs"] = active
    if begun and "runs" in S:
        S["runs"] = list(dict.fromkeys([*S["runs"], *begun]))
    chosen: list[str] = []
    if runs:
        chosen = st.multiselect(
            "Also show runs of this machine",
            [run.name for run in runs],
            default=active,
            key="runs",
            bind="query-params",
            placeholder="Runs that are not exported yet",
            help="Run folders that stimcore.train left on the server's machine. One in progress is followed live.",
        )
    live = any(name in active for name in chosen)
    st.fragment(followed, run_every=POLL_S if live else LOOK_S)(here, chosen, active)
    if not here.classroom:
        lambdas(here)
        costs(here)
        footer(here)


if __name__ == "__main__":
    page()
