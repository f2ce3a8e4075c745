"""Re-calibration on against off: how much of what sub-networks lose is only stale batch-norm statistics."""

from dataclasses import replace
from functools import partial

from stimcore.analysis.estimates import Estimate, accuracy
from stimcore.analysis.loafing import Overall, overall
from stimcore.analysis.result import Sweep
from stimcore.analysis.seeds import measured, runs_of, seed_groups
from stimcore.report.results import ExperimentResults, NetworkResults
from stimcore.report.section import Cell, Column, Section, Table

COLUMNS = (
    Column("method"),
    Column("all: mean, re-calibrated"),
    Column("all: mean, as trained"),
    Column("main minus mean, re-calibrated"),
    Column("main minus mean, as trained"),
    Column("share that is stale statistics, %", 0),
    Column("main, re-calibrated"),
    Column("main, as trained"),
    Column("seeds", 0),
)


def recalibration_section(results: ExperimentResults) -> list[Section]:
    """Return the section; nothing where no network was swept in both ways."""
    networks = [replace(runs[0], repeats=tuple(runs[1:])) for network in results.networks if (runs := _runs(network))]
    if not networks:
        return []
    groups = seed_groups(networks)
    return [
        Section(
            name="table-recalibration",
            title="Re-calibration on against off",
            text=(
                "A sub-network that runs with the batch-norm statistics of the whole network fails for a reason that has "
                "nothing to do with loafing. Everywhere else on this page statistics are measured anew for every network, as "
                "the paper's authors do. Here the same networks also run with the statistics that training left. The share is "
                "the part of the gap between the main network and the mean of its sub-networks that re-calibration removes.",
            ),
            tables=[
                Table(
                    "table-recalibration" if number == len(groups) else "table-recalibration-seeds",
                    "All ordered sub-networks, accuracy in %, gaps in points" + (f"; {words}" if words else ""),
                    COLUMNS,
                    [_row(network) for network in group if network is not None],
                )
                for number, (words, group) in enumerate(groups, start=1)
            ],
        )
    ]


def _runs(network: NetworkResults) -> list[NetworkResults]:
    """Return the seeds of a network that were swept in both ways."""
    return [run for run in runs_of(network) if run.as_trained is not None and "ordered" in run.sweeps]


def _row(network: NetworkResults) -> tuple[Cell, ...]:
    gaps = [_value(network, calibrated, "gap") for calibrated in (True, False)]
    on, off = (None if gap is None else gap.value for gap in gaps)
    # with a gap of nothing there is no share of it
    share = None if on is None or off is None or off <= 0 else 100 * (1 - on / off)
    return (
        network.title,
        *(_value(network, calibrated, "mean") for calibrated in (True, False)),
        *gaps,
        share,
        measured(network, partial(_main, calibrated=True)),
        measured(network, partial(_main, calibrated=False)),
        len(_runs(network)),
    )


def _value(network: NetworkResults, calibrated: bool, name: str) -> Estimate | None:
    """Return a value of `Overall`, over the seeds that were swept in both ways."""

    def of(run: NetworkResults) -> Estimate | None:
        everything = _overall(run, calibrated)
        value: Estimate | None = None if everything is None else getattr(everything, name)
        return value

    return measured(network, of)


def _overall(run: NetworkResults, calibrated: bool) -> Overall | None:
    sweep = _sweep(run, calibrated)
    return None if sweep is None else overall(sweep)


def _main(run: NetworkResults, calibrated: bool) -> Estimate | None:
    sweep = _sweep(run, calibrated)
    return None if sweep is None else accuracy(sweep.main)


def _sweep(run: NetworkResults, calibrated: bool) -> Sweep | None:
    if run.as_trained is None or "ordered" not in run.sweeps:
        return None
    return run.sweeps["ordered"] if calibrated else run.as_trained
