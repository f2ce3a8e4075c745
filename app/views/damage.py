"""Damage: what deleting one block, deleting many and re-ordering blocks costs (Figs r4 to r7)."""

from typing import Any

import streamlit as st

from app import arrangement
from app.family import Sampled, family
from app.frame import Frame, footer, frame
from app.show import show
from stimcore.analysis import loafing, paper
from stimcore.figures import damage as figures
from stimcore.serve.types import MethodInfo
from stimcore.subnets.families import count

S = st.session_state
LEAD = (
    "Three ways to hurt a network, the same for every training method. **The lower a bar or a line, the less it minds.** "
    "In a network without loafing, the rest can do the work of what is missing."
)


def collected(here: Frame, kind: str) -> list[tuple[MethodInfo, Sampled]]:
    """The families that are known."""
    return [(m, found) for m in here.methods if (found := family(here, m, kind)) is not None]


def words(here: Frame, found: list[tuple[MethodInfo, Sampled]]) -> None:
    """Whether these are all, or a sample."""
    said = sorted({f.words for _, f in found})
    st.caption("● measured here: " + "; ".join(said) + ".")


def delete_one(here: Frame, found: list[tuple[MethodInfo, Sampled]]) -> None:
    """Panel a, with the block that was clicked or chosen."""
    st.subheader("Delete one block", anchor=False)
    removable = here.topology.removable
    block = st.selectbox(
        "Block",
        [str(b) for b in removable],
        index=None,
        placeholder="Choose a block, or click a bar",
        key="block",
        bind="query-params",
        width=340,
    )
    series = [figures.Series(here.style(m), singles=loafing.single_deletions(here.topology, f.sweep)) for m, f in found]
    show(
        figures.singles(series, here.topology.fixed, here.topology.num_blocks, int(block) if block else None),
        "delete-one",
        "Points lost when one block is deleted, by block and training method",
        on_select=clicked,
        selection_mode="points",
    )
    if block:
        for (method, _), one in zip(found, series, strict=True):
            row = dict(one.singles).get(int(block))
            if row:
                low, high = row["drop_interval_pct"]
                st.markdown(
                    f"{here.style(method).glyph} {here.style(method).label} without block {block}: "
                    f"{row['accuracy_pct']:.1f} % right, "
                    f"**{row['drop_pct']:.1f} points lost** ({low:.1f} to {high:.1f})."
                )
        if st.button("Open in Break it", key="open"):
            spec = str(arrangement.without(here.topology, [int(block)]))
            S["spec"] = spec
            st.switch_page("views/break_it.py", query_params={"spec": spec})
    if here.topology.fixed:
        blocks = ", ".join(map(str, sorted(here.topology.fixed)))
        st.caption(f"🔒 Blocks {blocks} have no skip path around them and can't be deleted.")
    first = [stage[0] for stage in here.topology.stages if stage[0] in removable]
    if first:
        st.caption(
            f"Block {', '.join(map(str, first))}: the first block of a stage runs in every sub-network that "
            f"stimulative training draws, "
            "so no method ever practised without it, and losing it can hurt."
        )


def clicked() -> None:
    """A bar was clicked: the choice beside it follows."""
    points: Any = (S.get("figure_delete-one") or {}).get("selection", {}).get("points", [])
    if points:
        value = points[0].get("customdata", points[0].get("x"))
        S["block"] = str(value[0] if isinstance(value, list) else value)


def curve(here: Frame, found: list[tuple[MethodInfo, Sampled]], kind: str) -> None:
    """Panels b and c."""
    by = loafing.deletion_curve if kind == "delete" else loafing.permutation_curve
    series = [figures.Series(here.style(m), spreads=by(here.topology, f.sweep)) for m, f in found]
    x = "deleted blocks" if kind == "delete" else "permuting operations (swaps)"
    show(figures.curve(series, x), f"{kind}-many", f"Points lost over the number of {x}: median and range")
    words(here, found)


def page() -> None:
    """Draws the page."""
    here = frame("Damage", LEAD)
    if here.topology.ordered_only:
        st.info(
            f"In {here.topology.network} every block reads the outputs of all blocks before it, so none can be "
            f"deleted from the middle "
            "or moved. Only ordered sub-networks exist: see the page Sub-networks."
        )
        st.page_link("views/subnetworks.py", label="Sub-networks")
        footer(here)
        return
    deletions = collected(here, "delete")
    if deletions:
        delete_one(here, deletions)
        st.subheader("Delete more and more", anchor=False)
        bands = (
            "the band reaches from the mildest to the worst."
            if len(deletions) <= figures.BANDS
            else f"choose up to {figures.BANDS} methods to see also the mildest and the worst."
        )
        st.markdown(f"Every set of removable blocks: the line is the median set, {bands}")
        curve(here, deletions, "delete")
    if count(here.topology, "permute"):
        st.subheader("Change the order", anchor=False)
        st.markdown("Blocks swapped within their stage; 1 operation is one swap.")
        permutations = collected(here, "permute")
        if permutations:
            curve(here, permutations, "permute")
    if not here.classroom:
        with st.expander("○ What the paper shows"):
            names = {m.method for m in here.methods}
            for figure, method in paper.DAMAGE_FIGURES.items():
                mark = "●" if method in names else "○"
                st.markdown(f"{mark} Fig. {figure}: {paper.FIGURES[figure].shows}.")
            st.markdown("The paper prints no numbers for these figures (MobileNetV3 on CIFAR-100), so none are repeated here.")
        footer(here)


if __name__ == "__main__":
    page()
