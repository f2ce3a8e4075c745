"""Sub-networks: all ordered ones at once, what loafing costs each, and the paper's tables beside them."""

from collections.abc import Mapping, Sequence

import streamlit as st

from app import arrangement as state
from app import sources
from app.family import Sampled, family
from app.frame import Frame, footer, frame, plain
from app.show import show
from app.theory import theory
from stimcore.analysis import loafing, paper
from stimcore.figures import subnetworks as figures
from stimcore.serve.types import MethodInfo
from stimcore.subnets.topology import Topology

S = st.session_state
LEAD = (
    "An *ordered* sub-network keeps the first few blocks of every stage. Each point below is one of "
    "them: how many images does it get "
    "right **inside** the trained network? Points that hang far below the star are blocks that loaf."
)
LISTED = 1000
"""Sub-networks that a drop-down can list; of more, one types the depths."""

Swept = tuple[MethodInfo, Sampled]


def choose(topology: Topology, swept: Sequence[Swept]) -> str:
    """The chosen sub-network in its short form; the same choice as a click in a figure, for keyboards."""
    short = [topology.short(topology.parse(row["spec"])) for row in swept[0][1].sweep["results"]]
    if len(short) <= LISTED:
        return str(
            st.selectbox(
                "Sub-network",
                short,
                index=0,
                key="subnet",
                bind="query-params",
                width=340,
                help=(
                    "The number of blocks that each stage keeps: d2-3-1 keeps 2 of the first, 3 of the second, 1 of the third."
                ),
            )
        )
    return st.text_input(
        "Sub-network", value=short[0], key="subnet", bind="query-params", help="Blocks kept per stage, as in d2-3-1."
    )


def clicked(topology: Topology, key: str) -> None:
    """A point was clicked."""
    if spec := figures.pick(S.get(key)):
        S["subnet"] = topology.short(topology.parse(spec))


def chosen_one(here: Frame, swept: Sequence[Swept], short: str) -> str:
    """What each method says of the chosen sub-network; returns its long form, empty where there is none."""
    arrangement, why = state.explain(here.topology, short)
    if why:
        st.error(plain(why))
        return ""
    spec = str(arrangement.spec)
    with st.container(horizontal=True, vertical_alignment="bottom", key="chosen", gap="medium"):
        for method, sampled in swept:
            row = next((r for r in sampled.sweep["results"] if r["spec"] == spec), None)
            if row:
                drop = row["drop_pct"]
                st.metric(
                    here.style(method).label,
                    f"{row['accuracy_pct']:.1f} %",
                    "the full network" if spec == str(here.topology.full) else _points(-drop),
                    delta_color="off",
                    delta_arrow="off",
                    width="content",
                )
        st.button("Open in Break it", key="open", on_click=lambda: S.update(spec=str(arrangement), opened=True))
    if S.pop("opened", False):
        st.switch_page("views/break_it.py", query_params={"spec": str(arrangement)})
    return spec


def _points(change: float) -> str:
    return "no change" if abs(change) < 0.05 else f"{change:+.1f} points"


def costs(here: Frame, families: Sequence[figures.Family]) -> Mapping[str, int]:
    """Spec -> multiply-accumulates, from a method that lists every sub-network drawn; empty where none does."""
    drawn = {row["spec"] for family in families for row in family.sweep["results"]}
    for method in here.methods:
        if method.num_networks >= len(drawn):
            known = {n.spec: n.macs for n in sources.networks(here.experiment.name, method).networks}
            if drawn <= set(known):
                return known
    return {}


def overview(here: Frame, swept: Sequence[Swept]) -> None:
    """Mean and deviation beside Table r3."""
    printed = {row.method: row for row in paper.TABLE_R3}
    rows = []
    for method, sampled in swept:
        found = loafing.overall(sampled.sweep)
        theirs = printed.get(method.method)
        rows.append(
            {
                "Method": f"{here.style(method).glyph} {here.style(method).label}",
                "● full network": f"{found.main.value:.2f} %",
                f"● all {found.num}, mean ± deviation": f"{found.mean.value:.2f} ± {found.std.value:.2f} %",
                "● worst": f"{100 * found.worst['correct'] / found.worst['images']:.1f} %",
                "○ paper: full network": f"{theirs.main_pct:.2f} %" if theirs else "–",
                "○ paper: all 144": f"{theirs.all_mean_pct:.2f} ± {theirs.all_std_pct:.2f} %" if theirs else "–",
            }
        )
    st.table(rows, border="horizontal")
    labels = ", ".join(sorted({m.label for m, _ in swept}))
    st.caption(
        f"● measured here ({labels}; {here.topology.network} on {here.experiment.dataset}). "
        "○ printed in the paper, Table r3 (MobileNetV3 on CIFAR-100, 500 epochs): another network and data "
        "set, so compare the pattern, "
        "not the numbers."
    )


def twins(here: Frame, swept: Sequence[Swept]) -> None:
    """Twins beside the same architecture inside: the loafing gap."""
    st.subheader("The loafing gap", anchor=False)
    st.markdown(
        "A **twin** is the same small network, trained alone. If it does better alone than inside the big "
        "one, the difference is what "
        "loafing costs: the **loafing gap**."
    )
    rows = []
    for twin in here.twins:
        if twin.spec is None:
            continue
        line: dict[str, str] = {
            "Sub-network": here.topology.short(here.topology.parse(twin.spec)),
            "● alone (twin)": f"{twin.main.accuracy_pct:.1f} %",
        }
        for method, sampled in swept:
            row = loafing.inside(sampled.sweep, loafing.depths(twin.spec))
            if row:
                gap = loafing.loafing_gap(twin.main.model_dump(), row)
                line[f"inside: {here.style(method).label.lower()}"] = (
                    f"{row['accuracy_pct']:.1f} %, gap {gap.value:+.1f} ({gap.low:+.1f} to {gap.high:+.1f})"
                )
        rows.append(line)
    if rows:
        st.table(rows, border="horizontal")
        st.caption("Gap in points with its 95 % interval; positive: the sub-network loafs inside the big network.")
    else:
        name, smallest = here.experiment.name, here.topology.short(here.topology.ordered([1] * len(here.topology.sizes)))
        st.info(
            "No twin was trained for this experiment yet. One more run makes one: "
            f"`python -m stimcore.train {name} --method common --spec {smallest}`, then export it into the same experiment."
        )


def nested(here: Frame) -> None:
    """Tables r5 and r6: smaller networks inside larger ones."""
    st.subheader("Small networks inside larger ones", anchor=False)
    st.markdown("Read along a row: the same small network, alone (diagonal) and inside ever larger ones.")
    tabs = st.tabs(["● measured here", "○ paper, CIFAR-100 (Table r6)", "○ paper, ImageNet (Table r5)"])
    with tabs[0]:
        members = _members(here)
        cells = {key: row["accuracy_pct"] for key, row in loafing.matrix(members).items()}
        if len(members) > 1 and len(cells) > len(members):
            figure = figures.matrix([m.name for m in members], cells, "measured here")
            show(figure, "matrix", "Accuracy of small networks inside larger ones, measured here")
        else:
            st.info("This needs twins that lie inside each other; this experiment has none yet.")
    for tab, table, key in ((tabs[1], paper.TABLE_R6, "r6"), (tabs[2], paper.TABLE_R5, "r5")):
        with tab:
            show(figures.matrix(table.networks, table.cells, f"paper, {table.dataset}"), key, f"Table {key} of the paper")


def _members(here: Frame) -> list[loafing.Member]:
    common = [m for m in here.experiment.methods if m.method == "common"]
    found = []
    for method in common:
        depths = loafing.depths(method.spec) if method.spec else here.topology.sizes
        name = "d" + "-".join(map(str, depths))
        sweep = sources.sweep(here.experiment.name, method, "ordered")
        found.append(loafing.Member(name, tuple(depths), method.main.model_dump(), sweep))
    return sorted(found, key=lambda m: m.depths)


def page() -> None:
    """Draws the page."""
    here = frame("All sub-networks", LEAD)
    topology = here.topology
    swept: list[Swept] = [(m, found) for m in here.methods if (found := family(here, m, "ordered")) is not None]
    if not swept:
        footer(here)
        return
    short = choose(topology, swept)
    spec = chosen_one(here, swept, short)
    families = [
        figures.Family(
            here.style(m), s.sweep, {r["spec"]: topology.short(topology.parse(r["spec"])) for r in s.sweep["results"]}
        )
        for m, s in swept
    ]
    left, right = st.columns(2)
    with left:
        show(
            figures.distribution(families, spec),
            "cloud",
            "Accuracy of every sub-network by training method",
            on_select=lambda: clicked(topology, "figure_cloud"),
            selection_mode="points",
        )
    with right:
        show(
            figures.against_cost(families, costs(here, families), spec),
            "cost",
            "Accuracy of every sub-network over the work per image",
            on_select=lambda: clicked(topology, "figure_cost"),
            selection_mode="points",
        )
    st.caption("★ full network. Click a point, or choose a sub-network above.")
    overview(here, swept)
    if not here.classroom:
        twins(here, swept)
        theory(here, [(m, s.sweep) for m, s in swept])
        nested(here)
        footer(here)


if __name__ == "__main__":
    page()
