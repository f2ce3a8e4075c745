"""Tables r3 and r4: the methods compared in accuracy, time and memory."""

from collections.abc import Sequence

from stimcore.analysis import paper
from stimcore.analysis.estimates import Estimate, ratio
from stimcore.analysis.seeds import all_ordered, main_accuracy, runs_of, seed_groups
from stimcore.analysis.training_cost import TrainingCost, memory_ratio
from stimcore.report.results import ExperimentResults, NetworkResults, method_words
from stimcore.report.section import Cell, Column, Section, Table

Row = tuple[str, paper.MethodRow | None, NetworkResults | None]
"""Title, the paper's row, and the network that was measured here."""
ACCURACY_COLUMNS = (
    Column("method"),
    Column("main, here"),
    Column("main, paper"),
    Column("all: mean, here"),
    Column("all: deviation, here"),
    Column("all: mean, paper"),
    Column("all: deviation, paper"),
    Column("seeds, here", 0),
    Column("label of ours"),
)
COST_COLUMNS = (
    Column("method"),
    Column("s per epoch, here", 0),
    Column("over common, here"),
    Column("hours, paper"),
    Column("over common, paper"),
    Column("MiB, here", 0),
    Column("over common, here"),
    Column("MiB, paper", 0),
    Column("over common, paper"),
)
PAIR_COLUMNS = (
    Column("setting"),
    Column("label"),
    Column("CT, time"),
    Column("ST, time"),
    Column("ratio of times"),
    Column("CT, MiB", 0),
    Column("ST, MiB", 0),
    Column("ratio of memory"),
)


def table_r3(results: ExperimentResults) -> Section:
    """Return main and all-mean of every method, time and memory over common training, each next to the paper's number."""
    rows = _table_r3_networks(results)
    base = results.method("common")
    base_cost = base.cost if base else None
    missing = [title for title, _, network in rows if network is None]
    return Section(
        name="table-r3",
        title="Table r3: the six methods",
        text=(
            "All is the mean over all ordered sub-networks, the main network included, and their population standard "
            "deviation. With several seeds, numbers are means over seeds and intervals those of Student's t; with one seed "
            "they cover the choice of test images, conservatively: at least 95%. All rows of a table of accuracies have equal "
            "seeds: where some runs have more than others, one table has those with the most, and one all runs with what they "
            "share.",
            "Time here is per epoch, processor time on a CPU and wall clock on a GPU: the median over epochs with the smallest "
            "and largest in brackets, of the first seed, and over common training only where both ran on the same kind of "
            "processor; the paper's is hours of wall clock for the whole training. Memory here is what the "
            "training steps need above what was in use before the first one; runs of older versions stored only the memory of "
            "the whole process, data set and libraries included, whose ratios are nearer to 1.",
        ),
        tables=(
            *_accuracy_tables(rows),
            Table("table-r3-cost", "Time and memory", COST_COLUMNS, [_cost_row(*row, base_cost) for row in rows]),
        ),
        gaps=[f"Not measured here: {', '.join(missing)}."] if missing else [],
    )


def _table_r3_networks(results: ExperimentResults) -> list[Row]:
    """Return the paper's six methods, measured or not, and then every other main network: title, paper's row, network."""
    six = [(row, results.method(row.method)) for row in paper.TABLE_R3]
    chosen = {network.name for _, network in six if network is not None}
    rows: list[Row] = []
    for row, network in six:
        # The paper's numbers belong to the method as such, not to a variant with other options in a folder of another name.
        is_method = network is None or network.name == network.method
        rows.append((method_words(row.method), row if is_method else None, network))
    return rows + [(network.title, None, network) for network in results.main_networks if network.name not in chosen]


def _accuracy_tables(rows: Sequence[Row]) -> list[Table]:
    """Return the table for each group of networks with the same seeds; what was not measured stands in the last one."""
    tables = []
    groups = seed_groups([network for _, _, network in rows if network is not None])
    for number, (words, networks) in enumerate(groups, start=1):
        left, is_last = iter(networks), number == len(groups)
        of_group = [(title, printed, None if network is None else next(left)) for title, printed, network in rows]
        tables.append(
            Table(
                "table-r3-accuracy" if is_last else "table-r3-accuracy-seeds",
                "Accuracy, %: measured here next to the paper (MobileNetV3, CIFAR-100)" + (f"; {words}" if words else ""),
                ACCURACY_COLUMNS,
                [_accuracy_row(*row) for row in of_group if is_last or row[2] is not None],
            )
        )
    return tables


def _accuracy_row(title: str, printed: paper.MethodRow | None, network: NetworkResults | None) -> tuple[Cell, ...]:
    everything = all_ordered(network) if network else None
    return (
        title,
        main_accuracy(network) if network else None,
        printed.main_pct if printed else None,
        everything.mean if everything else None,
        everything.std if everything else None,
        printed.all_mean_pct if printed else None,
        printed.all_std_pct if printed else None,
        len(runs_of(network)) if network else None,
        network.label if network else "not measured",
    )


def _cost_row(
    title: str, printed: paper.MethodRow | None, network: NetworkResults | None, base: TrainingCost | None
) -> tuple[Cell, ...]:
    cost = network.cost if network else None
    common = paper.TABLE_R3[0]
    return (
        title,
        cost.time if cost else None,
        _time_ratio(cost, base),
        printed.hours if printed else None,
        printed.hours / common.hours if printed else None,
        _memory_mib(cost),
        memory_ratio(cost, base)[0] if cost and base and cost.compares_with(base) else None,
        printed.memory_mib if printed else None,
        printed.memory_mib / common.memory_mib if printed else None,
    )


def _time_ratio(cost: TrainingCost | None, base: TrainingCost | None) -> Estimate | None:
    if cost is None or base is None or not cost.compares_with(base):
        return None
    return ratio(cost.time, base.time)


def _memory_mib(cost: TrainingCost | None) -> float | None:
    if cost is None:
        return None
    return cost.memory_mib if cost.method_mib is None else cost.method_mib


def table_r4(results: ExperimentResults) -> Section:
    """Return time and memory of common and stimulative training, here and in the paper's three settings."""
    networks = {name: results.method(name) for name in ("common", "stimulative")}
    costs = {name: network.cost if network else None for name, network in networks.items()}
    missing = [name for name, cost in costs.items() if cost is None]
    rows: list[tuple[Cell, ...]] = []
    if len(missing) < len(costs):
        label = next(network.label for network in networks.values() if network)
        setting = f"{results.topology.network}, {results.dataset}: s per epoch"
        rows.append(_pair_row(setting, label, costs["common"], costs["stimulative"]))
    for column in paper.TABLE_R4:
        rows.append(
            (
                f"{column.network}, {column.dataset}: hours",
                paper.LABEL,
                column.common_hours,
                column.stimulative_hours,
                column.stimulative_hours / column.common_hours,
                column.common_mib,
                column.stimulative_mib,
                column.stimulative_mib / column.common_mib,
            )
        )
    return Section(
        name="table-r4",
        title="Table r4: time and memory of common and stimulative training",
        text=(
            f"The paper: about {paper.TIME_RATIO} times the time (less than {paper.TIME_RATIO_BELOW:g} times), the same "
            "memory. Its training runs both forwards apart; ours shares the blocks that both have in common.",
        ),
        tables=(
            Table(
                "table-r4",
                "CT is common, ST stimulative training; time per epoch here, whole training in the paper",
                PAIR_COLUMNS,
                rows,
            ),
        ),
        gaps=[f"No training records here of: {', '.join(missing)}."] if missing else [],
    )


def _pair_row(setting: str, label: str, common: TrainingCost | None, stimulative: TrainingCost | None) -> tuple[Cell, ...]:
    return (
        setting,
        label,
        common.time if common else None,
        stimulative.time if stimulative else None,
        _time_ratio(stimulative, common),
        _memory_mib(common),
        _memory_mib(stimulative),
        memory_ratio(stimulative, common)[0] if common and stimulative and stimulative.compares_with(common) else None,
    )
