"""Every run beside common training: which ingredient closes the gap between a network and its sub-networks."""

from stimcore.analysis.estimates import Estimate
from stimcore.analysis.seeds import all_ordered, compare, compare_all_ordered, runs_of
from stimcore.report.results import ExperimentResults, NetworkResults
from stimcore.report.section import Cell, Column, Section, Table

NAME = "table-comparison"
COLUMNS = (
    Column("run"),
    Column("main minus common's"),
    Column("all: mean minus common's"),
    Column("main minus its own mean"),
    Column("seeds", 0),
    Column("intervals"),
)


def comparison_section(results: ExperimentResults) -> list[Section]:
    """Return the section; nothing where common training has nothing beside it."""
    base = results.method("common")
    others = [network for network in results.main_networks if network is not base]
    if base is None or not others:
        return []
    return [
        Section(
            name=NAME,
            title="Every run beside common training",
            text=(
                "A run whose options are not its method's own is named by what differs; docs/experiments.md says what each "
                "control asks. Intervals are those of the two differences to common training, seed by seed or image by image "
                "where both share seeds or images.",
            ),
            tables=(Table(NAME, "Differences in points", COLUMNS, [_row(network, base) for network in (base, *others)]),),
        )
    ]


def _row(network: NetworkResults, base: NetworkResults) -> tuple[Cell, ...]:
    everything = all_ordered(network)
    gains: list[Estimate | None] = [None, None]
    if network is not base:
        gains = [compare(network, base), compare_all_ordered(network, base)]
    words = dict.fromkeys(gain.basis_words for gain in gains if gain is not None)
    return (
        network.title,
        *gains,
        None if everything is None else everything.gap,
        len(runs_of(network)),
        ", ".join(words) or None,
    )
