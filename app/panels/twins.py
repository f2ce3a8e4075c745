"""Twins: small networks alone and inside larger ones, measured here and as the paper prints them (Tables r5, r6)."""

from collections.abc import Mapping, Sequence

import streamlit as st

from app.chart import chart
from app.frame import Frame
from app.networks import trained_networks
from app.panels.family import Family
from app.text import code, plain
from stimcore.analysis import paper
from stimcore.analysis.comparisons import nested_family, nested_table, ordered
from stimcore.analysis.estimates import difference
from stimcore.analysis.networks import TrainedNetwork
from stimcore.analysis.seeds import main_accuracy, side_by_side
from stimcore.figures.nested_matrix import nested_matrix
from stimcore.serve.types import MethodInfo


def twin_table(here: Frame, swept: Sequence[tuple[MethodInfo, Family]]) -> None:
    """Draw a table of twins next to the same sub-networks inside the trained networks.

    Args:
        here: The page.
        swept: Methods with their accuracies of ordered sub-networks.
    """
    st.subheader("The loafing gap", anchor=False)
    st.markdown(
        "A **twin** is the same small network, trained alone. If it does better alone than inside the big one, the "
        "difference is what loafing costs: the **loafing gap**."
    )
    networks = {network.name: network for network in trained_networks(here.experiment)}
    rows = [_gap_row(here, networks, twin, twin.spec, swept) for twin in here.twins if twin.spec is not None]
    if rows:
        st.table(rows, border="horizontal")
        st.caption(
            "Gap in points with its 95 % interval; positive: the sub-network loafs inside the big network. Accuracies are "
            "means over seeds where there are several; a method with one seed is compared with the twin of that seed. The "
            "interval is over seeds where both networks were trained with several, else over the test images: paired image by "
            "image, or of two independent counts, which is wider."
        )
        return
    smallest = here.topology.short(here.topology.ordered([1] * len(here.topology.sizes)))
    st.info(
        "No twin was trained for this experiment yet. One more run makes one: "
        + code(f"python -m stimcore.train {here.experiment.name} --method common --spec {smallest}")
        + ", then export it into the same experiment."
    )


def _gap_row(
    here: Frame,
    networks: Mapping[str, TrainedNetwork],
    twin: MethodInfo,
    text: str,
    swept: Sequence[tuple[MethodInfo, Family]],
) -> dict[str, str]:
    spec = here.topology.parse(text)
    alone = networks[twin.name]
    row = {"Sub-network": here.topology.short(spec), "● alone (twin)": f"{main_accuracy(alone).value:.1f} %"}
    for method, family in swept:
        inside = next((result for result in family.sweep.results if result.spec == spec), None)
        if inside is not None:
            stored = side_by_side(alone, networks[method.name], of_second=ordered(alone.depths))
            # a sweep that this server has just made is not stored
            gap = stored.difference if stored else difference(twin.main, inside)
            inside_pct = stored.second.value if stored else inside.accuracy_pct
            row[plain(f"inside: {here.label(method)}")] = (
                f"{inside_pct:.1f} %, gap {gap.value:+.1f} ({gap.low:+.1f} to {gap.high:+.1f}, {gap.basis_words})"
            )
    return row


def nested_networks(here: Frame) -> None:
    """Draw smaller networks inside larger ones: measured here, and Tables r6 and r5 of the paper."""
    st.subheader("Small networks inside larger ones", anchor=False)
    st.markdown("Read along a row: the same small network, alone (diagonal) and inside ever larger ones.")
    tabs = st.tabs(["● measured here", "○ paper, CIFAR-100 (Table r6)", "○ paper, ImageNet (Table r5)"])
    with tabs[0]:
        members = nested_family(trained_networks(here.experiment), here.topology.network)
        cells = {key: accuracy.value for key, accuracy in nested_table(members).items()}
        if len(members) > 1 and len(cells) > len(members):
            figure = nested_matrix([m.name for m in members], cells, "measured here")
            chart(figure, "matrix", "Accuracy of small networks inside larger ones, measured here")
        else:
            st.info("This needs twins that lie inside each other; this experiment has none yet.")
    for tab, table, key in ((tabs[1], paper.TABLE_R6, "r6"), (tabs[2], paper.TABLE_R5, "r5")):
        with tab:
            figure = nested_matrix(table.networks, table.cells, f"paper, {table.dataset}")
            chart(figure, key, f"Table {key} of the paper")
