"""The sections of Figs r1, r2, r3 and r8, each with the data behind its figure."""

from collections.abc import Mapping, Sequence

from stimcore.analysis import paper
from stimcore.analysis.comparisons import lambda_ablation
from stimcore.analysis.estimates import accuracy, drop
from stimcore.analysis.loafing import overall
from stimcore.analysis.networks import METHOD_ORDER
from stimcore.analysis.result import Sweep
from stimcore.analysis.seeds import main_accuracy, seeds_words
from stimcore.figures.ablation import lambda_figure
from stimcore.figures.fan import fan_lines, fans, opening
from stimcore.figures.layout import apply_print_theme
from stimcore.figures.method_sweep import MethodSweep
from stimcore.figures.scatter import accuracy_over_cost
from stimcore.figures.strip import accuracy_strips
from stimcore.figures.style import method_style
from stimcore.figures.trajectory import Trajectory, main_loss, trajectories
from stimcore.report.results import ExperimentResults, method_words
from stimcore.report.section import Cell, Column, Section, Table
from stimcore.subnets.spec import Spec

SWEEP_COLUMNS = ("method", "spec", "accuracy_pct", "drop_points", "images", "million_macs")
FAN_COLUMNS = ("method", "network", "epoch", "accuracy_pct", "images")
EPOCH_COLUMNS = ("method", "epoch", "test_accuracy_pct", "main_loss_nats", "cpu_seconds")


def describe_paper_figure(figure: str) -> str:
    """Return what a figure of the paper shows, and what the text quotes from it.

    Example:
        >>> describe_paper_figure("r8")
        "The paper's Fig. r8 shows accuracy of MobileNetV3's sub-networks, all six methods. It prints no numbers."
    """
    entry = paper.FIGURES[figure]
    printed = f"The text quotes: {entry.quoted}." if entry.quoted else "It prints no numbers."
    return f"The paper's Fig. {figure} shows {entry.shows}. {printed}"


def name_missing(present: Mapping[str, object], wanted: Sequence[str], what: str) -> list[str]:
    """Return a gap that names the methods that are missing; nothing where all are there.

    Example:
        >>> name_missing({"common": ...}, ("common", "stimulative"), "training records")
        ['Not measured here, training records of: stimulative.']
    """
    missing = [method_words(method) for method in wanted if method not in present]
    return [f"Not measured here, {what} of: {', '.join(missing)}."] if missing else []


def figure_r1(results: ExperimentResults) -> Section:
    """Return common and stimulative training (or the imported weights): every sub-network over its cost."""
    wanted = ("common", "stimulative") if results.method("common") else ("imported", "stimulative")
    sweeps = results.swept("ordered", wanted)
    macs = results.base.macs if results.base else {}
    drawn = {result.spec for sweep in sweeps.values() for result in sweep.results}
    # Costs are on the axis only where all are known: blocks and multiply-adds can't share it.
    axis = macs if drawn <= set(macs) else {}
    return Section(
        name="figure-r1",
        title="Fig. r1: the network and all of its sub-networks",
        text=(describe_paper_figure("r1"), "Bars are 95% intervals; the star is the main network."),
        figure=apply_print_theme(accuracy_over_cost(_drawn(results, sweeps), axis)) if sweeps else None,
        alt="Accuracy of every ordered sub-network over its cost. " + _summary(sweeps),
        tables=(_sweep_table("figure-r1", sweeps, macs),) if sweeps else (),
        gaps=name_missing(sweeps, ("common", "stimulative"), "ordered sub-networks"),
    )


def figure_r8(results: ExperimentResults) -> Section:
    """Return all methods: how the accuracies of their sub-networks spread."""
    sweeps = results.swept("ordered", [*METHOD_ORDER, *(name for name in results.methods if name not in METHOD_ORDER)])
    return Section(
        name="figure-r8",
        title="Fig. r8: sub-networks of all methods",
        text=(
            describe_paper_figure("r8"),
            "A point per ordered sub-network, beside them their mean with its 95% interval; the star is the main network.",
        ),
        figure=apply_print_theme(accuracy_strips(_drawn(results, sweeps))) if sweeps else None,
        alt="Accuracies of all ordered sub-networks, a strip of points per method. " + _summary(sweeps),
        tables=(_sweep_table("figure-r8", sweeps, {}),) if sweeps else (),
        gaps=name_missing(sweeps, METHOD_ORDER, "ordered sub-networks"),
    )


def _drawn(results: ExperimentResults, sweeps: Mapping[str, Sweep]) -> list[MethodSweep]:
    short = results.topology.short
    return [
        MethodSweep(method_style(method), sweep, {result.spec: short(result.spec) for result in sweep.results})
        for method, sweep in sweeps.items()
    ]


def _summary(sweeps: Mapping[str, Sweep]) -> str:
    overalls = {method: overall(sweep) for method, sweep in sweeps.items()}
    values = [f"{method_words(method)}: {each.mean.value:.1f} ± {each.std.value:.1f}%" for method, each in overalls.items()]
    return "Mean and deviation: " + ", ".join(values) + "."


def _sweep_table(name: str, sweeps: Mapping[str, Sweep], macs: Mapping[Spec, int]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            method_words(method),
            str(result.spec),
            accuracy(result),
            drop(result),
            result.images,
            macs[result.spec] / 1e6 if result.spec in macs else None,
        )
        for method, sweep in sweeps.items()
        for result in sweep.results
    ]
    return Table(name, "Data", [Column(title) for title in SWEEP_COLUMNS], rows, shown=False)


def figure_r2(results: ExperimentResults) -> Section:
    """Return the trajectories of all methods."""
    records = {method: network.records for method, network in results.methods.items() if network.records}
    rows: list[tuple[Cell, ...]] = [
        (method_words(name), row["epoch"], (row.get("test") or {}).get("accuracy_pct"), main_loss(row), row["cpu_seconds"])
        for name, epochs in records.items()
        for row in epochs
    ]
    runs = [Trajectory(method_style(name), epochs) for name, epochs in records.items()]
    return Section(
        name="figure-r2",
        title="Fig. r2: training",
        text=(
            describe_paper_figure("r2"),
            "The loss is the main network's cross entropy during training, for every method. The star is the highest accuracy, "
            "as in the paper; every table on this page uses the last epoch instead: nothing is selected on test images.",
        ),
        figure=apply_print_theme(trajectories(runs)) if runs else None,
        alt="Test accuracy and training loss over the epochs: " + ", ".join(map(method_words, records)) + ".",
        tables=(Table("figure-r2", "Data", [Column(title) for title in EPOCH_COLUMNS], rows, shown=False),) if runs else (),
        gaps=name_missing(records, ("common", "stimulative"), "training records"),
    )


def training_fans(results: ExperimentResults) -> list[Section]:
    """Return how far the sub-networks that were watched stayed behind during training; nothing where none were watched."""
    watched = {
        method: network.records
        for method, network in results.methods.items()
        if network.records and opening(network.records) is not None
    }
    if not watched:
        return []
    runs = [Trajectory(method_style(method), records) for method, records in watched.items()]
    rows: list[tuple[Cell, ...]] = [
        (method_words(method), name, point.epoch, point.accuracy_pct, point.images)
        for method, records in watched.items()
        for name, points in fan_lines(records).items()
        for point in points
    ]
    widths = ", ".join(f"{method_words(method)} {opening(records):.1f}" for method, records in watched.items())
    return [
        Section(
            name="figure-fans",
            title="Fans: the main network and watched sub-networks during training",
            text=("Thick: the main network on all test images; thin: sub-networks on a part of them. Not in the paper.",),
            figure=apply_print_theme(fans(runs)),
            alt=f"Points between the main network and the worst watched sub-network after the last epoch: {widths}.",
            tables=(Table("figure-fans", "Data", [Column(title) for title in FAN_COLUMNS], rows, shown=False),),
        )
    ]


def figure_r3(results: ExperimentResults, lambda_results: ExperimentResults | None) -> Section:
    """Return accuracy over lambda, from this experiment or from the one that was made for it.

    Args:
        results: This experiment.
        lambda_results: The experiment of the same name with `-lambda` appended, None where there is none.
    """
    source, ablation = results, lambda_ablation(results.main_networks)
    if len(ablation.points) < 2 and lambda_results is not None:
        source, ablation = lambda_results, lambda_ablation(lambda_results.main_networks)
    measured = len(ablation.points) > 1
    rows: list[tuple[Cell, ...]] = [(f"{weight:g}", main_accuracy(network)) for weight, network in ablation.points]
    if ablation.common is not None:
        rows.insert(0, ("common", main_accuracy(ablation.common)))
    gaps = [] if measured else ["Not measured here: fewer than two lambdas were trained with one recipe."]
    if measured and ablation.common is None:
        gaps.append("Common training with the same recipe was not measured.")
    seeds = [seeds_words(network) for _, network in ablation.points[:1]]
    table = Table(
        "figure-r3",
        f"Accuracy of the main network, measured here; {', '.join(seeds)}",
        (Column("lambda"), Column("main accuracy, %")),
        rows,
    )
    return Section(
        name="figure-r3",
        title="Fig. r3: lambda",
        text=(describe_paper_figure("r3"), *([_describe_lambda_runs(source, source is results)] if measured else [])),
        figure=apply_print_theme(lambda_figure(ablation)) if measured else None,
        alt="Main accuracy over lambda, common training as a line across with its 95% interval.",
        tables=(table,) if measured else (),
        gaps=gaps,
    )


def _describe_lambda_runs(source: ExperimentResults, is_this: bool) -> str:
    """Return where the runs over lambda come from, and the budget of common training, whose recipe they share."""
    origin = "This experiment" if is_this else f"From the experiment {source.name}"
    common = source.method("common")
    return f"{origin}: {common.recipe['epochs']} epochs, {common.label}." if common and common.recipe else f"{origin}."
