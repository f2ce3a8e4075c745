"""Which ingredient closes the gap: every run beside common training and beside stimulative training."""

from collections.abc import Mapping
from typing import Any

from stimcore.analysis.estimates import Estimate
from stimcore.analysis.seeds import (
    NO_SETTINGS,
    all_ordered,
    compare,
    compare_all_ordered,
    gap_closed,
    on_shared_seeds,
    runs_of,
)
from stimcore.report.results import ExperimentResults, NetworkResults
from stimcore.report.section import Cell, Column, Section, Table

NAME = "table-comparison"
COLUMNS = (
    Column("run"),
    Column("what it asks"),
    Column("main minus common's"),
    Column("all: mean minus common's"),
    Column("all: mean minus stimulative's"),
    Column("main minus its own mean"),
    Column("common's, same seeds"),
    Column("gap closed, %", 1),
    Column("seeds", 0),
    Column("intervals"),
)
CAPTION = (
    "Differences in points; the gap is main minus its own mean, gap closed the share of common training's gap that is gone, on "
    "the seeds that both have; behind an interval over seeds stands that over images"
)
QUESTIONS: Mapping[str, str] = {
    "epochs": "is it the processor time? {value} epochs",
    "last_survival": "do more skipped blocks do? Last survival {value}",
    "sample=deletions": "must sub-networks be ordered? Any deletions are sampled",
    "target=labels": "is it the teacher? Sub-networks learn from the labels",
    "sandwich=true": "is it the random choice? The smallest sub-network in every step as well",
    "weight": "lambda {value}",
}
"""Option of a method or key of a recipe, with its value where that matters -> what a run with it asks."""


def comparison_section(results: ExperimentResults) -> list[Section]:
    """Return the section; nothing where common training has nothing beside it."""
    base, stimulative = results.method("common"), results.method("stimulative")
    others = [network for network in results.main_networks if network is not base]
    if base is None or not others:
        return []
    rows = [_row(network, base, stimulative, results) for network in (base, *others)]
    return [
        Section(
            name=NAME,
            title="Which ingredient closes the gap",
            text=(
                "The mean is over all ordered sub-networks, the main network included.",
                "Differences to common and to stimulative training are of the same seeds and images where both share them, so "
                "that runs with one seed are read beside the same seed of these two, and not beside their means.",
            ),
            tables=(Table(NAME, CAPTION, COLUMNS, rows),),
        )
    ]


def _row(
    network: NetworkResults, base: NetworkResults, stimulative: NetworkResults | None, results: ExperimentResults
) -> tuple[Cell, ...]:
    shared = on_shared_seeds([network, base])
    own, others = (all_ordered(each) for each in shared)
    gains: list[Estimate | None] = [None, None, None]
    if network is not base:
        gains[:2] = compare(network, base), compare_all_ordered(network, base)
    if stimulative is not None and network is not stimulative:
        gains[2] = compare_all_ordered(network, stimulative)
    words = dict.fromkeys(gain.basis_words for gain in gains if gain is not None)
    return (
        network.title,
        what_it_asks(network, results.method(network.method)) or None,
        *gains,
        None if own is None else own.gap,
        None if network is base or others is None else others.gap,
        None if network is base else gap_closed(network, base),
        len(runs_of(shared[0])),
        ", ".join(words) or None,
    )


def what_it_asks(network: NetworkResults, own: NetworkResults | None) -> str:
    """Return what a run asks, from the options and the keys of the recipe in which it differs from its method's own run.

    Args:
        network: The run.
        own: The run that stands for the method; None where there is none.

    Returns:
        Empty for the method's own run.
    """
    if own is None or own is network:
        return ""
    differing = {**_changed(network.options, own.options), **_changed(network.recipe, own.recipe)}
    return "; ".join(_question(name, value) for name, value in differing.items())


def _changed(values: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that differ; a key that only one of two versions of the program wrote tells nothing."""
    keys = [key for key in values if key in own and key not in NO_SETTINGS and not isinstance(values[key], dict)]
    return {key: values[key] for key in keys if values[key] != own[key]}


def _question(name: str, value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
    pair = f"{name}={text}"
    return QUESTIONS.get(pair) or QUESTIONS.get(name, pair).format(value=text)
