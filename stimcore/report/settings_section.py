"""The settings behind the numbers, here and in the paper: they show which values compare and which do not."""

from collections.abc import Mapping

from stimcore.analysis import paper
from stimcore.report.results import SCHEDULES, ExperimentResults, NetworkResults
from stimcore.report.section import Cell, Column, Section, Table


def settings_section(results: ExperimentResults) -> Section:
    """Return network, data and recipe here next to the paper's Appendix C.2 (F.2 for networks whose layers concatenate)."""
    printed, place = (paper.SETTING_F2, "F.2") if results.topology.ordered_only else (paper.SETTING_C2, "C.2")
    ours = _our_settings(results)
    machines = sorted({str(network.machine.get("device", "")) for network in results.main_networks if network.machine})
    return Section(
        name="settings",
        title="What was compared",
        text=(
            f"Every accuracy is that of the last epoch on the same {results.images:,} test images, with batch norms "
            "re-calibrated for every network and a 95% interval in brackets (Wilson for an accuracy, paired for a drop, "
            "Newcombe for two networks whose counts are treated as independent). A dash is a number that was not measured, or "
            "that the paper does not print.",
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
                [Column(title) for title in ("folder", "method", "network", "label", "seed", "epochs", "options")],
                [_network_row(network) for network in results.networks],
            ),
        ),
        gaps=results.problems,
    )


def _network_row(network: NetworkResults) -> tuple[Cell, ...]:
    options = ", ".join(f"{key} {value}" for key, value in network.options.items() if value is not None)
    epochs = network.recipe.get("epochs")
    architecture = f"{network.topology.network} {network.short}"
    return network.name, network.method, architecture, network.label, network.seed, epochs, options or "none"


def _our_settings(results: ExperimentResults) -> Mapping[str, str]:
    """Return the recipe of the first network that was trained here; network and data alone for imported weights."""
    settings = {"network": results.topology.network, "data": results.dataset}
    trained = next((network for network in results.main_networks if network.recipe), None)
    if trained is None:
        return settings | {"epochs": "imported weights"}
    recipe = trained.recipe
    weights = sorted({n.lambda_weight for n in results.main_networks if n.lambda_weight is not None})
    decay = f"times {recipe['decay']:g} at epochs {', '.join(map(str, recipe['milestones']))}" if recipe["milestones"] else ""
    return settings | {
        "epochs": str(recipe["epochs"]),
        "batch": str(recipe["batch_size"]),
        "learning rate": f"{recipe['learning_rate']:g}, {decay or SCHEDULES[recipe['schedule']]}",
        "weight decay": f"{recipe['weight_decay']:g}",
        "momentum": f"{recipe['momentum']:g}" + (", Nesterov" if recipe["nesterov"] else ""),
        "lambda": ", ".join(f"{weight:g}" for weight in weights) or "none: common training only",
        "seeds": ", ".join(sorted({str(network.seed) for network in results.main_networks})),
    }
