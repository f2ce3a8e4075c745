"""Tables r3 and r4: the methods side by side, in accuracy, time and memory."""

from stimcore.analysis import loafing, paper
from stimcore.analysis.loafing import Cost, Estimate, Overall
from stimcore.report.evidence import Evidence, Trained
from stimcore.report.figures.looks import look
from stimcore.report.section import Cell, Column, Section, Table


def table_r3(evidence: Evidence) -> Section:
    """Main and all-mean of every method, time and memory over common training, each beside the paper's number."""
    runs = _runs(evidence)
    printed = {row.method: row for row in paper.TABLE_R3}
    accuracy: list[tuple[Cell, ...]] = []
    cost: list[tuple[Cell, ...]] = []
    base = evidence.method("common")
    base_cost = loafing.training_cost(base.records) if base else None
    theirs = printed["common"]
    for title, method, run in runs:
        row = printed.get(method) if run is None or run.name == run.method else None
        ours = loafing.overall(run.sweeps["ordered"]) if run and "ordered" in run.sweeps else None
        accuracy.append(
            (
                title,
                loafing.accuracy(run.main) if run else None,
                row.main_pct if row else None,
                *_all(ours),
                row.all_mean_pct if row else None,
                row.all_std_pct if row else None,
                run.label if run else "not measured",
            )
        )
        spent = loafing.training_cost(run.records) if run else None
        cost.append(
            (
                title,
                spent.cpu_seconds if spent else None,
                _over(spent, base_cost, "cpu_seconds"),
                row.hours if row else None,
                row.hours / theirs.hours if row else None,
                spent.memory_mib if spent else None,
                spent.memory_mib / base_cost.memory_mib if spent and base_cost else None,
                row.memory_mib if row else None,
                row.memory_mib / theirs.memory_mib if row else None,
            )
        )
    lacking = [title for title, _, run in runs if run is None]
    return Section(
        name="table-r3",
        title="Table r3: the six methods",
        text=(
            "All is the mean over all ordered sub-networks, the main network among them, and their population standard "
            "deviation. Its intervals are conservative: no narrower than 95%.",
            "Time here is processor time per epoch, the median over epochs with the smallest and largest in brackets; the "
            "paper's is hours of wall clock for the whole training. Memory here is that of the whole process (on a GPU: what "
            "was "
            "allocated), data set and libraries among it, so ratios are nearer to 1 than the paper's.",
        ),
        tables=(
            Table(
                "table-r3-accuracy",
                "Accuracy, %: measured here beside the paper (MobileNetV3, CIFAR-100)",
                (
                    Column("method"),
                    Column("main, here"),
                    Column("main, paper"),
                    Column("all: mean, here"),
                    Column("all: deviation, here"),
                    Column("all: mean, paper"),
                    Column("all: deviation, paper"),
                    Column("label of ours"),
                ),
                accuracy,
            ),
            Table(
                "table-r3-cost",
                "Time and memory",
                (
                    Column("method"),
                    Column("s per epoch, here", 0),
                    Column("over common, here"),
                    Column("hours, paper"),
                    Column("over common, paper"),
                    Column("MiB, here", 0),
                    Column("over common, here"),
                    Column("MiB, paper", 0),
                    Column("over common, paper"),
                ),
                cost,
            ),
        ),
        gaps=[f"Not measured here: {', '.join(lacking)}."] if lacking else [],
    )


def _runs(evidence: Evidence) -> list[tuple[str, str, Trained | None]]:
    """The paper's six methods, measured or not, and then every other run of a whole network."""
    six = [(look(row.method).name, row.method, evidence.method(row.method)) for row in paper.TABLE_R3]
    chosen = {run.name for _, _, run in six if run is not None}
    others = [(run.title, run.method, run) for run in evidence.whole if run.name not in chosen]
    return [*six, *others]


def _all(found: Overall | None) -> tuple[Cell, Cell]:
    return (None, None) if found is None else (found.mean, found.std)


def _over(spent: Cost | None, base: Cost | None, what: str) -> Estimate | None:
    if spent is None or base is None:
        return None
    return loafing.ratio(getattr(spent, what), getattr(base, what))


def table_r4(evidence: Evidence) -> Section:
    """Time and memory of common and stimulative training, here and in the paper's three settings."""
    runs = [evidence.method(name) for name in ("common", "stimulative")]
    costs = [loafing.training_cost(run.records) if run else None for run in runs]
    common, stimulative = costs
    rows: list[tuple[Cell, ...]] = []
    if common is not None or stimulative is not None:
        both = common is not None and stimulative is not None
        rows.append(
            (
                f"{evidence.topology.network}, {evidence.dataset}: s per epoch",
                runs[0].label if runs[0] else runs[1].label if runs[1] else None,
                common.cpu_seconds if common else None,
                stimulative.cpu_seconds if stimulative else None,
                _over(stimulative, common, "cpu_seconds"),
                common.memory_mib if common else None,
                stimulative.memory_mib if stimulative else None,
                stimulative.memory_mib / common.memory_mib if both and common and stimulative else None,
            )
        )
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
    lacking = [name for name, cost in zip(("common", "stimulative"), costs, strict=True) if cost is None]
    return Section(
        name="table-r4",
        title="Table r4: time and memory of common and stimulative training",
        text=(
            f"The paper: about {paper.TIME_RATIO} times the time (less than {paper.TIME_RATIO_BELOW:g} times), the same "
            f"memory. "
            "Its training runs both forwards apart; ours shares the blocks that both have in common.",
        ),
        tables=(
            Table(
                "table-r4",
                "CT is common, ST stimulative training; time per epoch here (processor), whole training in the paper",
                (
                    Column("setting"),
                    Column("label"),
                    Column("CT, time"),
                    Column("ST, time"),
                    Column("ratio of times"),
                    Column("CT, MiB", 0),
                    Column("ST, MiB", 0),
                    Column("ratio of memory"),
                ),
                rows,
            ),
        ),
        gaps=[f"No training records here of: {', '.join(lacking)}."] if lacking else [],
    )
