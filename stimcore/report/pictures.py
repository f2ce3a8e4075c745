"""The sections that hold a figure: r1, r2, r3, r4 to r7, r8; each with the data behind it."""

from collections.abc import Mapping, Sequence

from stimcore.analysis import loafing, paper
from stimcore.analysis.loafing import Row, Spread, Sweep
from stimcore.report.comparisons import lambdas
from stimcore.report.evidence import Evidence, Trained
from stimcore.report.figures.ablation import ablation
from stimcore.report.figures.cloud import cloud, size_of
from stimcore.report.figures.damage import damage
from stimcore.report.figures.looks import look
from stimcore.report.figures.strips import strips
from stimcore.report.figures.trajectory import loss_of, trajectory
from stimcore.report.section import Cell, Column, Section, Table

SEVERAL = (
    "The paper's Figs r4 to r7 show the accuracy drop when blocks are deleted or permuted: stimulative and common training "
    "beside "
    "self distillation, stochastic depth, layer and stage supervision. They are pictures without printed numbers."
)


def _said(figure: str) -> str:
    entry = paper.FIGURES[figure]
    printed = f"The text quotes: {entry.quoted}." if entry.quoted else "It is a picture without printed numbers."
    return f"The paper's Fig. {figure} shows {entry.shows}. {printed}"


def figure_r1(evidence: Evidence) -> Section:
    """Common and stimulative training (or the imported weights): every sub-network over its size."""
    wanted = ("common", "stimulative") if evidence.method("common") else ("imported", "stimulative")
    sweeps = _ordered(evidence, wanted)
    macs = evidence.base.macs if evidence.base else {}
    covered = {spec: macs[spec] for sweep in sweeps.values() for spec in _specs(sweep) if spec in macs}
    everything = {spec for sweep in sweeps.values() for spec in _specs(sweep)}
    sizes = covered if set(covered) == everything else {}
    return Section(
        name="figure-r1",
        title="Fig. r1: the network and all of its sub-networks",
        text=(_said("r1"), "Bars are 95% intervals; the large mark is the main network."),
        figure=cloud(sweeps, sizes) if sweeps else None,
        alt="Accuracy of every ordered sub-network over its size. " + _summary(sweeps),
        tables=(_ordered_table("figure-r1", sweeps, macs),) if sweeps else (),
        gaps=_gaps(sweeps, ("common", "stimulative"), "ordered sub-networks"),
    )


def figure_r8(evidence: Evidence) -> Section:
    """All methods: the spread of their sub-networks."""
    names = [row.method for row in paper.TABLE_R3]
    sweeps = _ordered(evidence, [*names, *(name for name in evidence.methods if name not in names)])
    return Section(
        name="figure-r8",
        title="Fig. r8: sub-networks of all methods",
        text=(_said("r8"), "A point per ordered sub-network; the box holds the middle half, the long bar is the main network."),
        figure=strips(sweeps) if sweeps else None,
        alt="Accuracies of all ordered sub-networks, a strip per method. " + _summary(sweeps),
        tables=(_ordered_table("figure-r8", sweeps, {}),) if sweeps else (),
        gaps=_gaps(sweeps, names, "ordered sub-networks"),
    )


def _ordered(evidence: Evidence, names: Sequence[str]) -> dict[str, Sweep]:
    runs = {name: evidence.method(name) for name in names}
    return {name: run.sweeps["ordered"] for name, run in runs.items() if run is not None and "ordered" in run.sweeps}


def _specs(sweep: Sweep) -> list[str]:
    return [row["spec"] for row in sweep["results"]]


def _summary(sweeps: Mapping[str, Sweep]) -> str:
    told = [f"{look(name).name}: {o.mean.value:.1f} ± {o.std.value:.1f}%" for name, o in _means(sweeps).items()]
    return "Mean and deviation: " + ", ".join(told) + "."


def _means(sweeps: Mapping[str, Sweep]) -> dict[str, loafing.Overall]:
    return {name: loafing.overall(sweep) for name, sweep in sweeps.items()}


def _ordered_table(name: str, sweeps: Mapping[str, Sweep], macs: Mapping[str, int]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (look(method).name, row["spec"], loafing.accuracy(row), loafing.drop(row), row["images"], size_of(row, macs))
        for method, sweep in sweeps.items()
        for row in sweep["results"]
    ]
    columns = ("method", "spec", "accuracy_pct", "drop_points", "images", "million_macs")
    return Table(name, "Data", [Column(title) for title in columns], rows, shown=False)


def _gaps(found: Mapping[str, object], wanted: Sequence[str], what: str) -> list[str]:
    lacking = [look(name).name for name in wanted if name not in found]
    return [f"Not measured here, {what} of: {', '.join(lacking)}."] if lacking else []


def figure_r2(evidence: Evidence) -> Section:
    """Trajectories of all methods, common and stimulative first."""
    names = ["common", "stimulative", *(name for name in evidence.methods if name not in ("common", "stimulative"))]
    found = {name: run.records for name in names if (run := evidence.method(name)) is not None and run.records}
    rows: list[tuple[Cell, ...]] = [
        (look(name).name, row["epoch"], row.get("test", {}).get("accuracy_pct"), loss_of(row), row["cpu_seconds"])
        for name, records in found.items()
        for row in records
    ]
    columns = ("method", "epoch", "test_accuracy_pct", "main_loss_nats", "cpu_seconds")
    return Section(
        name="figure-r2",
        title="Fig. r2: training",
        text=(
            _said("r2"),
            "The loss is the main network's cross entropy while training, for every method. The star is the highest "
            "accuracy, as in "
            "the paper; every table on this page takes the last epoch instead: nothing is selected on test images.",
        ),
        figure=trajectory(found) if found else None,
        alt="Test accuracy and training loss over the epochs: " + ", ".join(look(name).name for name in found) + ".",
        tables=(Table("figure-r2", "Data", [Column(c) for c in columns], rows, shown=False),) if found else (),
        gaps=_gaps(found, ("common", "stimulative"), "training records"),
    )


def figure_r3(evidence: Evidence, beside: Evidence | None) -> Section:
    """Lambda, from this experiment or from the one beside it that was made for it.

    Args:
        evidence: This experiment.
        beside: The experiment of the same name with `-lambda` behind it, None where there is none.
    """
    source, points, common = evidence, *lambdas(evidence)
    if len(points) < 2 and beside is not None:
        source, points, common = beside, *lambdas(beside)
    enough = len(points) > 1
    run = source.method("common")
    note = [f"From the experiment {source.name}"] if enough and source is not evidence else []
    if enough and run is not None:
        note = [f"{note[0] if note else 'This experiment'}: {run.recipe['epochs']} epochs, {run.label}."]
    rows: list[tuple[Cell, ...]] = [(f"{weight:g}", loafing.accuracy(row)) for weight, row in points]
    if common is not None:
        rows.insert(0, ("common", loafing.accuracy(common)))
    gaps = [] if enough else ["Not measured here: fewer than two lambdas were trained with one recipe."]
    if enough and common is None:
        gaps.append("Common training with the same recipe was not measured.")
    table = Table(
        "figure-r3", "Accuracy of the main network, measured here", (Column("lambda"), Column("main accuracy, %")), rows
    )
    return Section(
        name="figure-r3",
        title="Fig. r3: lambda",
        text=(_said("r3"), *note),
        figure=ablation(points, common) if enough else None,
        alt="Main accuracy over lambda, common training as a line across.",
        tables=(table,) if enough else (),
        gaps=gaps,
    )


def figures_damage(evidence: Evidence) -> list[Section]:
    """Figs r4 to r7: common and stimulative training beside one other method each; one section where there is no other."""
    if evidence.topology.ordered_only:
        gap = f"Nothing can be deleted or moved in {evidence.topology.network}: its layers concatenate."
        return [Section("figures-r4-r7", "Figs r4 to r7: deleting and permuting blocks", gaps=[gap])]
    measured = {method: run for method, run in evidence.methods.items() if {"delete", "permute"} & set(run.sweeps)}
    present = [name for name, method in paper.DAMAGE_FIGURES.items() if method in measured]
    if not present:
        lacking = _gaps(measured, [row.method for row in paper.TABLE_R3], "deletions and permutations")
        return [_damage_section(evidence, "figures-r4-r7", "r4", measured, lacking)]
    sections = []
    for name, method in paper.DAMAGE_FIGURES.items():
        wanted = ("common", method, "stimulative")
        chosen = {key: measured[key] for key in wanted if key in measured} if method in measured else {}
        gaps = _gaps(measured, wanted, "deletions and permutations")
        sections.append(_damage_section(evidence, f"figure-{name}", name, chosen, gaps))
    return sections


def _damage_section(evidence: Evidence, name: str, figure: str, runs: Mapping[str, Trained], gaps: Sequence[str]) -> Section:
    sweeps = {method: run.sweeps for method, run in runs.items()}
    several = name == "figures-r4-r7"
    firsts = [stage[0] for stage in evidence.topology.stages if stage[0] in evidence.topology.removable]
    rarely = (
        f"Block {' and '.join(map(str, firsts))} begins a stage: no ordered sub-network, so no training, ever skips it, and in "
    )
    half = [
        f"Of {look(method).name} only {', '.join(sorted({'delete', 'permute'} & set(run.sweeps)))} was swept."
        for method, run in runs.items()
        if not {"delete", "permute"} <= set(run.sweeps)
    ]
    return Section(
        name=name,
        title="Figs r4 to r7: deleting and permuting blocks" if several else f"Fig. {figure}: deleting and permuting blocks",
        text=(
            SEVERAL if several else _said(figure),
            f"Blocks that may go or move: {', '.join(map(str, evidence.topology.removable))}. Drops are against each "
            f"method's own "
            "main network on the same images. (a) 95% paired intervals; (b) and (c) the median, with bars from the smallest "
            "to the "
            "largest drop of all sub-networks.",
            *([rarely + "the paper's network such a block can't be deleted."] if firsts else []),
        ),
        figure=damage(evidence.topology, sweeps) if runs else None,
        alt="Accuracy drop when blocks are deleted or permuted: " + ", ".join(look(method).name for method in runs) + ".",
        tables=(_curve_table(evidence, name, runs), _single_table(evidence, name, runs)) if runs else (),
        gaps=[*gaps, *half],
    )


def _curve_table(evidence: Evidence, name: str, runs: Mapping[str, Trained]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for method, run in runs.items():
        for kind, curve in (("delete", loafing.deletion_curve), ("permute", loafing.permutation_curve)):
            if kind in run.sweeps:
                rows += [_spread(look(method).name, kind, spread) for spread in curve(evidence.topology, run.sweeps[kind])]
    columns = (
        "method",
        "damage",
        "amount",
        "sub-networks",
        "smallest drop",
        "median drop",
        "largest drop",
        "spec of the largest",
    )
    return Table(f"{name}-curves", "Drops by amount, points", [Column(c) for c in columns], rows, shown=False)


def _spread(method: str, kind: str, found: Spread) -> tuple[Cell, ...]:
    return method, kind, found.amount, found.num, found.low, found.median, found.high, found.worst["spec"]


def _single_table(evidence: Evidence, name: str, runs: Mapping[str, Trained]) -> Table:
    singles: dict[str, dict[int, Row]] = {
        method: dict(loafing.single_deletions(evidence.topology, run.sweeps["delete"]))
        for method, run in runs.items()
        if "delete" in run.sweeps
    }
    blocks = sorted({block for rows in singles.values() for block in rows})
    rows: list[tuple[Cell, ...]] = [
        (f"block {block}", *(loafing.drop(found[block]) if block in found else None for found in singles.values()))
        for block in blocks
    ]
    columns = (Column("deleted"), *(Column(look(method).name) for method in singles))
    return Table(f"{name}-single", "Drop when one block is deleted, points, measured here", columns, rows)
