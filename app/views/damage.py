"""The page Damage: what it costs to delete one block, to delete many and to re-order blocks (Figs r4 to r7)."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app import session
from app.chart import chart
from app.frame import Frame, footer, frame, open_in_break_it, warn_of_unknown
from app.language import words
from app.panels.family import Family, family
from app.text import plain
from stimcore.analysis import paper
from stimcore.analysis.spreads import (
    deletion_curve,
    first_blocks,
    first_blocks_kept,
    permutation_curve,
    single_deletions,
)
from stimcore.figures import damage as figures
from stimcore.serve.types import MethodInfo
from stimcore.subnets.families import count
from stimcore.web import arrangement

Damaged = list[tuple[MethodInfo, Family]]


def families(here: Frame, kind: str) -> Damaged:
    """Return the families that are known; draw buttons that measure the others."""
    by_method = [(method, family(here, method, kind)) for method in here.methods]
    return [(method, measured) for method, measured in by_method if measured is not None]


def delete_one(here: Frame, damaged: Damaged) -> None:
    """Draw a bar for every block and method, and the numbers of the chosen block."""
    topology = here.topology
    st.subheader("Delete one block", anchor=False)
    blocks = [str(b) for b in topology.removable]
    warn_of_unknown("block", blocks.__contains__)
    text = st.selectbox(
        "Block",
        blocks,
        index=None,
        placeholder="Choose a block, or click a bar",
        key="block",
        bind="query-params",
        on_change=session.reported("block"),
        width=340,
    )
    text = session.shown("block", text)
    block = int(text) if text else None
    series = [figures.MethodDamage(here.style(m), singles=single_deletions(topology, f.sweep)) for m, f in damaged]
    chart(
        figures.single_deletions_figure(
            series, topology.num_blocks, locked=list(topology.fixed), firsts=first_blocks(topology), chosen=block
        ),
        "delete-one",
        "Points lost when one block is deleted, by block and training method",
        on_select=choose_clicked,
        selection_mode="points",
    )
    if block is not None:
        numbers_of_block(here, [method for method, _ in damaged], series, block)
    if topology.fixed:
        locked = ", ".join(map(str, sorted(topology.fixed)))
        st.caption(f"🔒 Blocks {locked} have no skip path around them and can't be deleted.")
    if firsts := first_blocks(topology):
        st.caption(first_blocks_note(firsts))


def first_blocks_note(firsts: Sequence[int]) -> str:
    """Return where the figure has the first blocks of stages, and why: methods are hatched too, so that hatching names none."""
    blocks = ", ".join(map(str, firsts))
    return (
        f"At the right, cross-hatched and with an axis of its own: block {blocks}, the first of its stage. The paper's methods "
        "never skip it, so that their networks never practised without it. The paper's own network can't lose such a block."
    )


def numbers_of_block(here: Frame, methods: Sequence[MethodInfo], series: Sequence[figures.MethodDamage], block: int) -> None:
    """Draw what every method loses without a block, and the button that opens this network in Break it."""
    for method, one in zip(methods, series, strict=True):
        result = dict(one.singles).get(block)
        if result:
            low, high = result.drop_interval_pct
            st.markdown(
                f"{plain(here.title(method))} without block {block}: {result.accuracy_pct:.1f} % right, "
                f"**{result.drop_pct:.1f} points lost** ({low:.1f} to {high:.1f})."
            )
    open_in_break_it(here.topology, arrangement.without(here.topology, [block]))


def choose_clicked() -> None:
    """Choose the block whose bar was clicked."""
    points: Any = (session.value("figure_delete-one") or {}).get("selection", {}).get("points", [])
    if points:
        value = points[0].get("customdata", points[0].get("x"))
        session.choose_block(value[0] if isinstance(value, list) else value)


def curve(here: Frame, damaged: Damaged, kind: str, also_first: bool) -> None:
    """Draw the median drop over the amount of damage.

    Args:
        here: The page.
        damaged: Families per method.
        kind: `delete` or `permute`.
        also_first: Whether networks count that miss or move a first block, which the paper's methods never skip.
    """
    styles, sweeps = [here.style(method) for method, _ in damaged], [measured.sweep for _, measured in damaged]
    if not also_first:
        sweeps = [first_blocks_kept(here.topology, sweep) for sweep in sweeps]
    if kind == "delete":
        x, spreads = figures.DELETED, [deletion_curve(here.topology, sweep) for sweep in sweeps]
    else:
        x, spreads = figures.OPERATIONS, [permutation_curve(sweep) for sweep in sweeps]
    curves = list(zip(styles, spreads, strict=True))
    chart(figures.damage_curve(curves, x), f"{kind}-many", f"Points lost over the number of {x}: median and range")
    without = f", of them the {len(sweeps[0].results):,} that keep all first blocks" if not also_first else ""
    st.caption("● measured here: " + "; ".join(sorted({plain(f.provenance) for _, f in damaged})) + f"{without}.")


def first_blocks_switch(here: Frame) -> bool:
    """Draw the switch that counts first blocks in, where the network has some; return whether they count."""
    if not first_blocks(here.topology):
        return True
    return st.toggle(
        "also the first blocks",
        key="first_blocks",
        bind="query-params",
        help="Also count networks that miss or move the first block of a stage, which the paper's methods never skip.",
    )


def paper_figures(here: Frame) -> None:
    """Draw what the paper's figures show, which print no numbers."""
    with st.expander("○ What the paper shows"):
        names = {m.method for m in here.methods}
        for figure, method in paper.DAMAGE_FIGURES.items():
            mark = "●" if method in names else "○"
            st.markdown(f"{mark} Fig. {figure}: {paper.FIGURES[figure].shows}.")
        st.markdown("The paper prints no numbers for these figures (MobileNetV3 on CIFAR-100), so none are repeated here.")


def page() -> None:
    """Draw the page."""
    here = frame(words().say("page.damage"), words().say("damage.lead"))
    if here.topology.ordered_only:
        st.info(
            f"In {here.topology.network} every block reads the outputs of all blocks before it, so none can be moved or "
            "deleted from the middle. Only ordered sub-networks exist: see the page Sub-networks."
        )
        st.page_link("views/subnetworks.py", label="Sub-networks")
        footer(here)
        return
    deletions, also_first = families(here, "delete"), not first_blocks(here.topology)
    if deletions:
        delete_one(here, deletions)
        st.subheader("Delete more and more", anchor=False)
        bands = (
            "the band reaches from the mildest to the worst."
            if len(deletions) <= figures.MAX_BANDS
            else f"choose up to {figures.MAX_BANDS} methods to see the mildest and the worst as well."
        )
        st.markdown(f"Every set of removable blocks: the line is the median set, {bands}")
        also_first = first_blocks_switch(here)
        curve(here, deletions, "delete", also_first)
    if count(here.topology, "permute"):
        st.subheader("Change the order", anchor=False)
        st.markdown("Blocks swapped within their stage; 1 operation is one swap.")
        permutations = families(here, "permute")
        if permutations:
            curve(here, permutations, "permute", also_first)
    if not here.classroom:
        paper_figures(here)
        footer(here)


if __name__ == "__main__":
    page()
