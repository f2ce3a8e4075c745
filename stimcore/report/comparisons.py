"""Which of an experiment's networks are compared: common beside stimulative, twins, nested families, lambdas."""

from collections.abc import Mapping
from dataclasses import dataclass

from stimcore.analysis import loafing, paper
from stimcore.analysis.loafing import Estimate, Member, Overall, Row
from stimcore.report.evidence import Evidence, Trained


def pair(evidence: Evidence, kind: str | None = None) -> tuple[Trained, Trained] | list[str]:
    """Common and stimulative training, both swept over a family where one is named; else what is missing."""
    lacking, found = [], []
    for name in ("common", "stimulative"):
        run = evidence.method(name)
        if run is None:
            lacking.append(f"{name} training")
        elif kind is not None and kind not in run.sweeps:
            lacking.append(f"{name} training's sweep '{kind}'")
        else:
            found.append(run)
    return lacking or (found[0], found[1])


@dataclass(frozen=True)
class Gap:
    """A twin, the same architecture inside a main network, and what the twin has more, in points."""

    twin: Trained
    inside: Row
    points: Estimate


def twin_gaps(evidence: Evidence, run: Trained) -> dict[str, Gap]:
    """Twin's folder -> its gap against the same sub-network inside `run`; nothing where `run` was not swept."""
    if "ordered" not in run.sweeps:
        return {}
    found = {}
    for twin in evidence.twins:
        row = loafing.inside(run.sweeps["ordered"], twin.depths)
        if row is not None:
            found[twin.name] = Gap(twin, row, loafing.loafing_gap(twin.main, row))
    return found


def family(evidence: Evidence) -> list[Member]:
    """The networks of the experiment that were each trained alone by common training (or imported), by size."""
    base = evidence.base
    runs = [*evidence.twins, *([base] if base is not None else [])]
    return [
        Member(run.topology.network if run is base else run.short, run.depths, run.main, run.sweeps.get("ordered"))
        for run in runs
    ]


def lambdas(evidence: Evidence) -> tuple[list[tuple[float, Row]], Row | None]:
    """Lambda -> main network of every stimulative run of one recipe, by lambda, and common training with that recipe."""
    runs = [run for run in evidence.whole if run.weight]
    common = evidence.method("common")
    if common is not None:
        runs = [run for run in runs if _same_recipe(run, common)]
    return sorted(((run.weight or 0.0, run.main) for run in runs), key=lambda item: item[0]), common.main if common else None


def _same_recipe(a: Trained, b: Trained) -> bool:
    return {**a.recipe, "options": None} == {**b.recipe, "options": None}


def overalls(evidence: Evidence) -> Mapping[str, Overall]:
    """Method -> all of its ordered sub-networks, for the methods of Table r3 that were swept, in its order."""
    return {
        row.method: loafing.overall(run.sweeps["ordered"])
        for row in paper.TABLE_R3
        if (run := evidence.method(row.method)) is not None and "ordered" in run.sweeps
    }
