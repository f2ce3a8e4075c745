"""What training cost: time and memory, measured here and as the paper prints them (Table r4)."""

import streamlit as st

from app.frame import Frame
from app.sources import bundles
from app.text import plain
from stimcore.analysis import paper
from stimcore.analysis.training_cost import TrainingCost
from stimcore.analysis.training_cost import training_cost as cost_of
from stimcore.serve.types import MethodInfo


def cost_tables(here: Frame) -> None:
    """Draw both tables."""
    st.subheader("What it costs", anchor=False)
    costs = [(m, cost_of(bundles.training(here.experiment.name, m), _device(m))) for m in here.methods]
    measured = [(method, cost) for method, cost in costs if cost is not None]
    common = next((cost for method, cost in measured if method.method == "common"), None)
    if measured:
        st.table([_row(here, method, cost, common) for method, cost in measured], border="horizontal")
        machines = sorted({_device(method) or "this machine" for method, _ in measured})
        st.caption(f"● measured here ({plain(', '.join(machines))}); median epoch, smallest to largest in brackets.")
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


def _device(method: MethodInfo) -> str:
    return str(method.machine.get("device") or method.machine.get("processor") or "")


def _row(here: Frame, method: MethodInfo, cost: TrainingCost, common: TrainingCost | None) -> dict[str, str]:
    # times of different processors say nothing about methods
    compares = common is not None and common.time.value and cost.compares_with(common)
    ratio = f"{cost.time.value / common.time.value:.2f} × ({cost.time_words})" if common and compares else "–"
    memory = cost.memory_mib if cost.method_mib is None else cost.method_mib
    return {
        "Method": plain(here.title(method)),
        "● seconds per epoch": f"{cost.seconds.value:.0f} ({cost.seconds.low:.0f} to {cost.seconds.high:.0f})",
        "● time, over common": ratio,
        "● largest memory": f"{memory:,.0f} MiB" + (" (whole process)" if cost.method_mib is None else ""),
        "● epochs": str(cost.epochs),
    }
