"""What a published page knows of an experiment without computing: its networks, stored states, texts, pictures and files."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stimcore.analysis.comparisons import Option, pareto_front
from stimcore.analysis.contrast import Contrast, clearest, contrasts
from stimcore.analysis.result import Sweep
from stimcore.analysis.spreads import first_blocks
from stimcore.bundle import Bundle
from stimcore.engine.engine import Engine
from stimcore.engine.walls import engine_answers, wall_images
from stimcore.figures.style import Style, method_style, variant
from stimcore.report.results import ExperimentResults, NetworkResults
from stimcore.serve.image_codec import encode_png
from stimcore.serve.repository.describe import networks_of
from stimcore.subnets.families import count_operations
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology
from stimcore.web import arrangement
from stimcore.web.diagram import payload as diagram_payload
from stimcore.web.ensemble import ensemble
from stimcore.web.lesson import REPLIES, RIGHT, lesson

QUICK = 256
"""Calibration and evaluation images behind a provisional number; they are loaded before the others."""
COMPARED = ("common", "stimulative")
"""The methods that a page opens with, where an experiment has them."""


@dataclass(frozen=True)
class Published:
    """An experiment that is published.

    Attributes:
        results: What is stored about it.
        bundles: Folder -> bundle of its whole networks.
    """

    results: ExperimentResults
    bundles: Mapping[str, Bundle]

    @property
    def topology(self) -> Topology:
        """The topology of the whole network."""
        return self.results.topology

    @property
    def networks(self) -> Sequence[NetworkResults]:
        """The whole networks, one for every run, in the order in which they are drawn."""
        return self.results.main_networks

    @property
    def compared(self) -> Sequence[NetworkResults]:
        """The two networks that the page opens with; one where there is only one."""
        first = [network for name in COMPARED for network in self.networks if network.name == name]
        return (first + [network for network in self.networks if network not in first])[:2]

    @property
    def contrasts(self) -> Sequence[Contrast]:
        """What the stored states show of the compared networks."""
        swept = [list(network.sweeps.values()) for network in self.compared]
        return contrasts(self.topology, swept[0], swept[1] if len(swept) > 1 else None) if swept else []

    @property
    def opening(self) -> arrangement.Arrangement:
        """The arrangement that the page opens with: the one that the dashboard opens with."""
        clear = clearest(self.contrasts, self.topology.num_blocks)
        return arrangement.full(self.topology) if clear is None else arrangement.read(self.topology, str(clear.spec))


def states_of(published: Published, *, walls: str, computed: str, images: int) -> dict[str, Any]:
    """Return the data of an experiment's pages as plain JSON types.

    Args:
        published: The experiment.
        walls: Of which states the picture wall is computed now where a bundle doesn't store it: `stored` (of none), `presets`
            (of the opening, the whole network and the ready-made edits) or `all` (of every stored state).
        computed: Why states that are not stored can't be computed in a browser; empty where they can.
        images: Evaluation images on which a browser counts such a state.
    """
    topology, bundle = published.topology, next(iter(published.bundles.values()))
    experiment = bundle.experiment
    presets = arrangement.presets(topology, published.contrasts)
    channels, height, width = experiment.image_shape
    return {
        "name": published.results.name,
        "dataset": experiment.dataset,
        "licence": experiment.licence,
        "classes": list(experiment.classes),
        "images": published.results.images,
        "shape": [channels, height, width],
        "topology": topology.to_dict() | {"channels": None},
        "diagram": _diagram(topology),
        "first_blocks": list(first_blocks(topology)),
        "opening": str(published.opening),
        "batch_norms": any(bundle.has_batch_norms for bundle in published.bundles.values()),
        "presets": [_edit(edit) for edit in presets.edits],
        "lesson": _lesson(published),
        "compared": [network.name for network in published.compared],
        "specs": (specs := _stored_specs(published)),
        "methods": [_method(published, network, specs) for network in published.networks],
        "families": _families(published),
        "twins": [
            {"spec": str(topology.ordered(twin.depths)), "correct": twin.main.correct, "images": twin.main.images}
            for twin in published.results.twins
        ],
        "wall": _wall(published, walls),
        "computed": computed,
        "quick": {"calibration": min(QUICK, len(experiment.calibration)), "test": min(QUICK, images, published.results.images)},
    }


def _diagram(topology: Topology) -> dict[str, Any]:
    """Return the data of the picture without its words, which the page has in every language."""
    data = diagram_payload(topology, str(arrangement.full(topology)), edits=0, large=False)
    del data["words"]
    return data


def _edit(edit: arrangement.Edit) -> dict[str, Any]:
    return {"name": edit.name, "values": dict(edit.values), "text": str(edit.arrangement)}


def _lesson(published: Published) -> dict[str, Any] | None:
    """Return the lesson; None where the experiment lacks one of the two copies that it talks about."""
    if not set(COMPARED) <= {network.method for network in published.networks}:
        return None
    steps = lesson(published.topology, published.contrasts)
    return {
        "steps": [
            {
                "name": step.name,
                "variant": step.variant or step.name,
                "values": dict(step.values),
                "edit": None if step.edit is None else _edit(step.edit),
            }
            for step in steps
        ],
        "replies": list(REPLIES),
        "right": RIGHT,
    }


def _style(published: Published, network: NetworkResults) -> Style:
    """Return how a network is drawn: as the dashboard draws it."""
    alike = [other.name for other in published.networks if other.method == network.method]
    style = method_style(network.method, network.name)
    return variant(style, alike.index(network.name)) if len(alike) > 1 else style


def _stored_specs(published: Published) -> list[str]:
    """Return every spec that has a stored state, of any method."""
    swept = [sweep for network in published.networks for sweep in network.sweeps.values()]
    stored = {str(result.spec) for sweep in swept for result in (sweep.main, *sweep.results)}
    return sorted(stored | {str(published.topology.full)})


def _method(published: Published, network: NetworkResults, specs: Sequence[str]) -> dict[str, Any]:
    style, bundle = _style(published, network), published.bundles[network.name]
    states = {}
    for sweep in network.sweeps.values():
        for result in (sweep.main, *sweep.results):
            low, high = result.drop_interval_pct
            states[str(result.spec)] = [result.correct, round(low, 4), round(high, 4)]
    main = states.setdefault(str(published.topology.full), [network.main.correct, 0.0, 0.0])
    return {
        "name": network.name,
        "method": network.method,
        "label": style.label,
        "glyph": style.glyph,
        "color": style.color,
        "trained": network.label,
        "correct": main[0],
        "states": [states.get(spec) for spec in specs],
        "files": _files(bundle, published.topology),
    }


def listed_ensemble(bundle: Bundle) -> dict[str, Spec]:
    """Return the listed files of the sub-networks that vote on a picture, the full network last."""
    listed = [(bundle.listed(spec), spec) for spec in ensemble(bundle.topology)]
    return {name: spec for name, spec in listed if name is not None}


def download_name(bundle: Bundle, spec: Spec) -> str:
    """Return the name of a self-contained file."""
    return f"{bundle.experiment.name}-{bundle.method}-{bundle.topology.short(spec)}.onnx"


def downloads_of(bundle: Bundle) -> tuple[list[Option], str]:
    """Return the listed networks that no other one beats in accuracy and cost, and the unit of the cost in words."""
    networks = networks_of(bundle).networks
    timed = all("batch1_p50" in network.latency_ms for network in networks)
    options = [
        Option(
            bundle.topology.short(Spec.from_text(network.spec)),
            network.accuracy_pct,
            float(network.latency_ms["batch1_p50"]) if timed else network.macs / 1e6,
            method=bundle.method,
            file=network.file,
            spec=network.spec,
        )
        for network in networks
    ]
    return pareto_front(options), "ms per image" if timed else "million multiply-adds per image"


def _files(bundle: Bundle, topology: Topology) -> dict[str, Any]:
    front, unit = downloads_of(bundle)
    entries = bundle.manifest.networks
    return {
        "unit": unit,
        "front": [
            {
                "name": option.name,
                "spec": option.spec,
                "accuracy": round(option.accuracy_pct, 4),
                "cost": round(option.cost, 4),
                "macs": entries[option.file].macs,
                "parameters": entries[option.file].parameters,
                "file": download_name(bundle, Spec.from_text(option.spec)),
            }
            for option in front
        ],
        "ensemble": [
            {"file": name, "spec": str(spec), "name": topology.short(spec)} for name, spec in listed_ensemble(bundle).items()
        ],
        "macs": {entry.spec: entry.macs for entry in entries.values()},
    }


def _families(published: Published) -> dict[str, Any]:
    """Return family -> its sub-networks and, for each, the amount of damage: blocks gone, or swaps."""
    families: dict[str, dict[str, int]] = {}
    num_blocks = published.topology.num_blocks
    for network in published.networks:
        for kind, sweep in network.sweeps.items():
            families.setdefault(kind, {}).update(
                (str(r.spec), count_operations(r.spec) if kind == "permute" else num_blocks - len(r.spec.blocks))
                for r in sweep.results
            )
    return {kind: dict(sorted(specs.items())) for kind, specs in sorted(families.items())}


# --- the picture wall ---


def _wall(published: Published, walls: str) -> dict[str, Any]:
    experiment = next(iter(published.bundles.values())).experiment
    images = wall_images(experiment, {})
    pixels, labels = experiment.evaluation
    return {
        "pictures": [{"label": int(labels[i]), "png": base64.b64encode(encode_png(pixels[i])).decode()} for i in images],
        "answers": {
            network.name: _answers(published, published.bundles[network.name], images, walls) for network in published.compared
        },
    }


def _answers(published: Published, bundle: Bundle, images: Sequence[int], walls: str) -> dict[str, Any]:
    known = {}
    if bundle.wall is not None and bundle.wall.images == tuple(images):
        known = dict(bundle.wall.states)
    wanted = [spec for spec in _wanted(published, walls) if spec not in known]
    if wanted:
        known |= engine_answers(Engine(bundle, device="cpu"), images, wanted)
    return {
        str(spec): {"classes": list(answers.classes), "confidence": list(answers.confidence)}
        for spec, answers in sorted(known.items())
    }


def _wanted(published: Published, walls: str) -> Iterable[Spec]:
    if walls == "stored":
        return []
    topology = published.topology
    edits = arrangement.presets(topology, published.contrasts).edits
    wanted = dict.fromkeys([published.opening.spec, topology.full, *(edit.arrangement.spec for edit in edits)])
    if walls == "all":
        sweeps: list[Sweep] = [sweep for network in published.compared for sweep in network.sweeps.values()]
        wanted |= dict.fromkeys(result.spec for sweep in sweeps for result in sweep.results)
    return wanted
