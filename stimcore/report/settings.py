"""The settings behind the numbers, here and in the paper, so that nobody compares values that do not compare."""

from collections.abc import Mapping

from stimcore.analysis import paper
from stimcore.report.evidence import Evidence, Trained
from stimcore.report.section import Column, Section, Table


def settings(evidence: Evidence) -> Section:
    """Network, data and recipe here beside the paper's Appendix C.2 (F.2 for networks whose layers concatenate)."""
    printed, place = (paper.SETTING_F2, "F.2") if evidence.topology.ordered_only else (paper.SETTING_C2, "C.2")
    ours = _ours(evidence)
    machines = sorted({str(run.machine.get("device", "")) for run in evidence.whole if run.machine})
    return Section(
        name="settings",
        title="What was compared",
        text=(
            f"Every accuracy is that of the last epoch on the same {evidence.images:,} test images, batch norms re-calibrated "
            "for every network, with a 95% interval in brackets (Wilson for an accuracy, paired for a drop, Newcombe for two "
            "networks that were counted apart). A dash is a number that was not measured, or that the paper does not print.",
            "Network, data and budget differ from the paper's, so directions and orders compare, values do not.",
            *([f"Trained on: {', '.join(machines)}."] if any(machines) else []),
        ),
        tables=(
            Table(
                "settings",
                "Settings here and in the paper",
                (Column("setting"), Column("measured here"), Column(f"paper (Appendix {place})")),
                [(key, ours.get(key), value) for key, value in printed.items()],
            ),
            Table(
                "networks",
                "Networks behind this page",
                (
                    Column("folder"),
                    Column("method"),
                    Column("network"),
                    Column("label"),
                    Column("seed"),
                    Column("epochs"),
                    Column("options"),
                ),
                [_row(run) for run in (*evidence.whole, *evidence.twins)],
            ),
        ),
        gaps=evidence.problems,
    )


def _row(run: Trained) -> tuple[str | int | None, ...]:
    options = ", ".join(f"{key} {value}" for key, value in run.options.items() if value is not None)
    epochs = run.recipe.get("epochs")
    return run.name, run.method, f"{run.topology.network} {run.short}", run.label, run.seed, epochs, options or "none"


def _ours(evidence: Evidence) -> Mapping[str, str]:
    """The recipe of the first network that was trained here; only network and data for imported ones."""
    found = {"network": evidence.topology.network, "data": evidence.dataset}
    run = next((run for run in evidence.whole if run.recipe), None)
    if run is None:
        return found | {"epochs": "imported weights"}
    recipe = run.recipe
    weights = sorted({run.weight for run in evidence.whole if run.weight is not None})
    steps = f", times {recipe['decay']:g} at epochs {', '.join(map(str, recipe['milestones']))}" if recipe["milestones"] else ""
    shape = {"cosine": "cosine", "one_cycle": "one cycle", "step": "steps"}[recipe["schedule"]]
    return found | {
        "epochs": str(recipe["epochs"]),
        "batch": str(recipe["batch_size"]),
        "learning rate": f"{recipe['learning_rate']:g}, {steps.removeprefix(', ') if steps else shape}",
        "weight decay": f"{recipe['weight_decay']:g}",
        "momentum": f"{recipe['momentum']:g}" + (", Nesterov" if recipe["nesterov"] else ""),
        "lambda": ", ".join(f"{weight:g}" for weight in weights) or "none: common training only",
        "seeds": ", ".join(sorted({str(run.seed) for run in evidence.whole})),
    }
