"""The sections of Figs r4 to r7: deleting and permuting blocks, with the data behind each figure."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from stimcore.analysis import paper
from stimcore.analysis.estimates import drop
from stimcore.analysis.networks import METHOD_ORDER
from stimcore.analysis.result import Result
from stimcore.analysis.spreads import Spread, deletion_curve, permutation_curve, single_deletions
from stimcore.figures.damage import MethodDamage, damage_panels
from stimcore.figures.layout import apply_print_theme
from stimcore.figures.style import method_style
from stimcore.report.figure_sections import describe_paper_figure, name_missing
from stimcore.report.results import ExperimentResults, NetworkResults, method_words
from stimcore.report.section import Cell, Column, Section, Table
from stimcore.subnets.topology import Topology

DAMAGE_KINDS = {"delete", "permute"}
ALL_FOUR = "figures-r4-r7"
ALL_FOUR_TITLE = "Figs r4 to r7: deleting and permuting blocks"
ALL_FOUR_TEXT = (
    "The paper's Figs r4 to r7 show the accuracy drop when blocks are deleted or permuted: stimulative and common training "
    "compared with self distillation, stochastic depth, layer and stage supervision. They print no numbers."
)
CURVE_COLUMNS = (
    "method",
    "damage",
    "amount",
    "sub-networks",
    "smallest drop",
    "median drop",
    "largest drop",
    "spec of the largest",
)


def damage_sections(results: ExperimentResults) -> list[Section]:
    """Return Figs r4 to r7: common and stimulative training with one other method each.

    Where no other method was swept, one section shows what there is.
    """
    if results.topology.ordered_only:
        gap = f"Nothing can be deleted or moved in {results.topology.network}: its layers concatenate."
        return [Section(ALL_FOUR, ALL_FOUR_TITLE, gaps=[gap])]
    swept = {method: network for method, network in results.methods.items() if DAMAGE_KINDS & set(network.sweeps)}
    if not set(paper.DAMAGE_FIGURES.values()) & set(swept):
        gaps = name_missing(swept, METHOD_ORDER, "deletions and permutations")
        return [_section(results.topology, ALL_FOUR, swept, gaps)]
    sections = []
    for figure, method in paper.DAMAGE_FIGURES.items():
        wanted = ("common", method, "stimulative")
        networks = {name: swept[name] for name in wanted if name in swept} if method in swept else {}
        gaps = name_missing(swept, wanted, "deletions and permutations")
        sections.append(_section(results.topology, f"figure-{figure}", networks, gaps))
    return sections


def _section(topology: Topology, name: str, networks: Mapping[str, NetworkResults], gaps: Sequence[str]) -> Section:
    figure = name.removeprefix("figure-")
    firsts = [str(stage[0]) for stage in topology.stages if stage[0] in topology.removable]
    half_swept = [
        f"Of {method_words(method)} only {', '.join(sorted(DAMAGE_KINDS & set(network.sweeps)))} was swept."
        for method, network in networks.items()
        if not set(network.sweeps) >= DAMAGE_KINDS
    ]
    text = [
        ALL_FOUR_TEXT if name == ALL_FOUR else describe_paper_figure(figure),
        f"Blocks that can be deleted or moved: {', '.join(map(str, topology.removable))}. Drops are against the main network "
        "of the same method on the same images. (a) 95% paired intervals; (b) and (c) the median, in a band from the "
        "smallest to the largest drop of all sub-networks.",
    ]
    if firsts:
        text.append(
            f"Block {' and '.join(firsts)} begins a stage: no ordered sub-network, so no training, ever skips it, and in the "
            "paper's network such a block can't be deleted."
        )
    return Section(
        name=name,
        title=ALL_FOUR_TITLE if name == ALL_FOUR else f"Fig. {figure}: deleting and permuting blocks",
        text=text,
        figure=_figure(topology, networks) if networks else None,
        alt="Accuracy drop when blocks are deleted or permuted: " + ", ".join(map(method_words, networks)) + ".",
        tables=(_curve_table(topology, name, networks), _single_table(topology, name, networks)) if networks else (),
        gaps=[*gaps, *half_swept],
    )


def _figure(topology: Topology, networks: Mapping[str, NetworkResults]) -> go.Figure:
    methods = []
    for method, network in networks.items():
        delete, permute = network.sweeps.get("delete"), network.sweeps.get("permute")
        methods.append(
            MethodDamage(
                method_style(method),
                singles=single_deletions(topology, delete) if delete else (),
                deletions=deletion_curve(topology, delete) if delete else (),
                permutations=permutation_curve(permute) if permute else (),
            )
        )
    return apply_print_theme(damage_panels(methods, topology.num_blocks))


def _curve_table(topology: Topology, name: str, networks: Mapping[str, NetworkResults]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for method, network in networks.items():
        delete, permute = network.sweeps.get("delete"), network.sweeps.get("permute")
        curves = {
            "delete": deletion_curve(topology, delete) if delete else (),
            "permute": permutation_curve(permute) if permute else (),
        }
        rows += [_curve_row(method_words(method), kind, spread) for kind, curve in curves.items() for spread in curve]
    return Table(f"{name}-curves", "Drops by amount, points", [Column(title) for title in CURVE_COLUMNS], rows, shown=False)


def _curve_row(method: str, kind: str, spread: Spread) -> tuple[Cell, ...]:
    return method, kind, spread.amount, spread.num, spread.low, spread.median, spread.high, str(spread.worst.spec)


def _single_table(topology: Topology, name: str, networks: Mapping[str, NetworkResults]) -> Table:
    singles: dict[str, dict[int, Result]] = {
        method: dict(single_deletions(topology, network.sweeps["delete"]))
        for method, network in networks.items()
        if "delete" in network.sweeps
    }
    blocks = sorted({block for results in singles.values() for block in results})
    rows: list[tuple[Cell, ...]] = [
        (f"block {block}", *(drop(results[block]) if block in results else None for results in singles.values()))
        for block in blocks
    ]
    columns = (Column("deleted"), *(Column(method_words(method)) for method in singles))
    return Table(f"{name}-single", "Drop when one block is deleted, points, measured here", columns, rows)
