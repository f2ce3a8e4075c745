"""The page Sub-networks: all ordered sub-networks at once, what loafing costs each, and the paper's tables next to them."""

from collections.abc import Mapping, Sequence

import streamlit as st

from app import session
from app.chart import chart
from app.frame import Frame, footer, frame, open_in_break_it, warn_of_unknown
from app.language import words
from app.networks import trained_networks
from app.panels.family import Family, family
from app.panels.theory import theory
from app.panels.twins import nested_networks, twin_table
from app.sources import bundles
from app.text import change, plain
from stimcore.analysis import loafing, paper
from stimcore.analysis.estimates import Estimate
from stimcore.analysis.seeds import all_ordered, compare, main_accuracy, runs_of
from stimcore.figures.layout import clicked_spec
from stimcore.figures.method_sweep import MethodSweep
from stimcore.figures.scatter import accuracy_over_cost
from stimcore.figures.strip import accuracy_strips
from stimcore.serve.types import MethodInfo
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology
from stimcore.web import arrangement

MAX_LISTED = 1000
"""Sub-networks that a drop-down lists; where there are more, the depths are typed."""

Swept = tuple[MethodInfo, Family]


def choose(topology: Topology, swept: Sequence[Swept]) -> str:
    """Draw the field that chooses a sub-network, as a click in a figure does, and return its text."""
    short = [topology.short(result.spec) for result in swept[0][1].sweep.results]
    if len(short) > MAX_LISTED:
        chosen = st.text_input(
            "Sub-network",
            value=short[0],
            key="subnet",
            bind="query-params",
            on_change=session.reported("subnet"),
            help="Blocks kept per stage, as in d2-3-1.",
        )
    else:
        warn_of_unknown("subnet", short.__contains__)
        chosen = st.selectbox(
            "Sub-network",
            short,
            index=0,
            key="subnet",
            bind="query-params",
            on_change=session.reported("subnet"),
            width=340,
            help="The number of blocks that each stage keeps: d2-3-1 keeps 2 of the first, 3 of the second, 1 of the third.",
        )
    return str(session.shown("subnet", chosen))


def choose_clicked(topology: Topology, key: str) -> None:
    """Choose the sub-network whose point was clicked in the figure with this key."""
    if spec := clicked_spec(session.value(key)):
        session.choose_subnet(topology.short(topology.parse(spec)))


def chosen_subnet(here: Frame, swept: Sequence[Swept], text: str) -> Spec | None:
    """Draw every method's accuracy of the chosen sub-network, and return it; None where the text names none."""
    shown, reason = arrangement.read_or_full(here.topology, text)
    if reason:
        st.error(plain(reason))
        return None
    with st.container(horizontal=True, vertical_alignment="bottom", key="chosen", gap="medium"):
        for method, measured in swept:
            result = next((r for r in measured.sweep.results if r.spec == shown.spec), None)
            if result:
                st.metric(
                    plain(here.label(method)),
                    f"{result.accuracy_pct:.1f} %",
                    "the full network" if shown.spec == here.topology.full else change(-result.drop_pct),
                    delta_color="off",
                    delta_arrow="off",
                    width="content",
                )
        open_in_break_it(here.topology, shown)
    return shown.spec


def multiply_adds(here: Frame, swept: Sequence[Swept]) -> Mapping[Spec, int]:
    """Return the multiply-accumulates of every sub-network drawn; empty where no method lists all of them."""
    drawn = {result.spec for _, measured in swept for result in measured.sweep.results}
    for method in here.methods:
        if method.num_networks >= len(drawn):
            macs = {here.topology.parse(n.spec): n.macs for n in bundles.networks(here.experiment.name, method).networks}
            if drawn <= set(macs):
                return macs
    return {}


def accuracy_figures(here: Frame, swept: Sequence[Swept], chosen: Spec | None) -> None:
    """Draw the accuracies of all sub-networks, by method and over the work per image."""
    topology = here.topology
    families = [
        MethodSweep(here.style(m), measured.sweep, {r.spec: topology.short(r.spec) for r in measured.sweep.results})
        for m, measured in swept
    ]
    left, right = st.columns(2)
    with left:
        chart(
            accuracy_strips(families, chosen),
            "cloud",
            "Accuracy of every sub-network by training method",
            on_select=lambda: choose_clicked(topology, "figure_cloud"),
            selection_mode="points",
        )
    with right:
        chart(
            accuracy_over_cost(families, multiply_adds(here, swept), chosen),
            "cost",
            "Accuracy of every sub-network over the work per image",
            on_select=lambda: choose_clicked(topology, "figure_cost"),
            selection_mode="points",
        )
    st.caption("★ full network. Click a point, or choose a sub-network above.")


def overview(here: Frame, swept: Sequence[Swept]) -> None:
    """Draw mean and deviation of every method next to the paper's Table r3."""
    printed = {row.method: row for row in paper.TABLE_R3}
    rows = []
    for method, measured in swept:
        ours = loafing.overall(measured.sweep)
        # the paper's numbers belong to its method, not to a variant of ours, whose bundle has another name
        theirs = printed.get(method.method) if method.name == method.method else None
        rows.append(
            {
                "Method": plain(here.title(method)),
                "● full network": f"{ours.main.value:.2f} %",
                f"● all {ours.num}, mean ± deviation": f"{ours.mean.value:.2f} ± {ours.std.value:.2f} %",
                "● worst": f"{ours.worst.accuracy_pct:.1f} %",
                "○ paper: full network": f"{theirs.main_pct:.2f} %" if theirs else "–",
                "○ paper: all 144": f"{theirs.all_mean_pct:.2f} ± {theirs.all_std_pct:.2f} %" if theirs else "–",
            }
        )
    st.table(rows, border="horizontal")
    over_seeds(here, swept)
    labels = ", ".join(sorted({m.label for m, _ in swept}))
    where = plain(f"{labels}; {here.topology.network} on {here.experiment.dataset}")
    st.caption(
        f"● measured here ({where}). ○ printed in the paper, Table r3 "
        "(MobileNetV3 on CIFAR-100, 500 epochs). The paper's network and data set are different: compare the pattern, not the "
        "numbers."
    )


def over_seeds(here: Frame, swept: Sequence[Swept]) -> None:
    """Draw what the repeats with other seeds gave, where there are some; everything else on the page is of one seed."""
    networks = {network.name: network for network in trained_networks(here.experiment)}
    common = next((networks[m.name] for m, _ in swept if m.method == "common"), None)
    rows = []
    for method, _ in swept:
        network = networks[method.name]
        seeds = [run.seed for run in runs_of(network)]
        if len(seeds) < 2:
            continue
        everything = all_ordered(network)
        gain = compare(network, common) if common is not None and network is not common else None
        rows.append(
            {
                "Method": here.title(method),
                "● seeds": ", ".join(map(str, seeds)),
                "● full network, mean": with_interval(main_accuracy(network), "%"),
                "● all, mean": with_interval(everything.mean, "%") if everything else "–",
                "● full network, over common": with_interval(gain, "points") if gain else "–",
            }
        )
    if rows:
        st.table(rows, border="horizontal")
        st.caption(
            "Means over seeds with 95 % intervals over seeds (Student's t). All seeds are measured on the same images: the "
            "second interval of the last column says what others could change. The table above and figures are of one seed, "
            "the first."
        )


def with_interval(estimate: Estimate, unit: str) -> str:
    """Return a number with its intervals, for a cell."""
    images = "" if estimate.over_images is None else "; over images {:.2f} to {:.2f}".format(*estimate.over_images)
    return f"{estimate.value:.2f} {unit} ({estimate.low:.2f} to {estimate.high:.2f}{images})"


def page() -> None:
    """Draw the page."""
    here = frame(words().say("subnetworks.title"), words().say("subnetworks.lead"))
    families = [(method, family(here, method, "ordered")) for method in here.methods]
    swept: list[Swept] = [(method, measured) for method, measured in families if measured is not None]
    if not swept:
        footer(here)
        return
    chosen = chosen_subnet(here, swept, choose(here.topology, swept))
    accuracy_figures(here, swept, chosen)
    overview(here, swept)
    if not here.classroom:
        twin_table(here, swept)
        theory(here, [(method, measured.sweep) for method, measured in swept])
        nested_networks(here)
        footer(here)


if __name__ == "__main__":
    page()
