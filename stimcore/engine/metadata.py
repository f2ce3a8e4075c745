"""The description inside every ONNX file: producer, name, a sentence, and properties that tools show."""

import json
from dataclasses import dataclass

import onnx

import stimcore
from stimcore.analysis.intervals import wilson
from stimcore.bundle import Experiment, Manifest
from stimcore.subnets.spec import Spec

PRODUCER = "stimcore"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of a network.

    Attributes:
        correct: Evaluation images that it classifies correctly.
        images: Number of evaluation images, from 1.
        parity: Largest difference of logits from its reference, divided by the largest logit; None when it wasn't compared.
        parity_images: Number of images on which it was compared; None when these are all evaluation images.
    """

    correct: int
    images: int
    parity: float | None = None
    parity_images: int | None = None


def add_metadata(
    model: onnx.ModelProto,
    experiment: Experiment,
    manifest: Manifest,
    spec: Spec,
    measured: Measured | None,
    *,
    optimiser: str | None = None,
) -> None:
    """Describe a model in its own file.

    Args:
        model: Changed in place: producer, graph name, doc string and metadata properties.
        experiment: The experiment of the network.
        manifest: The manifest of the network; only what is known before its files are written is used.
        spec: The sub-network.
        measured: Accuracy and parity; None where nothing was measured.
        optimiser: What simplified the graph of a self-contained file, with its version; None for a graph that shares weights.
    """
    topology = manifest.topology
    short = topology.short(spec)
    model.producer_name, model.producer_version = PRODUCER, stimcore.__version__
    model.graph.name = f"{topology.network} {short}"
    text = (
        f"{topology.network}, sub-network {short}, trained on {experiment.dataset} by the method '{manifest.method}' "
        f"(seed {manifest.seed}, {manifest.label}). Input: images [N, {', '.join(map(str, experiment.image_shape))}], float32, "
        f"preprocessed by the steps in the property 'preprocessing'. Output: logits [N, {len(experiment.classes)}]."
    )
    properties = {
        "spec": str(spec),
        "network": topology.network,
        "method": manifest.method,
        "seed": str(manifest.seed),
        "label": manifest.label,
        "dataset": experiment.dataset,
        "data_licence": experiment.licence or "unknown",
        "classes": _compact(experiment.classes),
        "preprocessing": _compact(experiment.preprocessing.to_dict()),
        "checkpoint_sha256": manifest.checkpoint_sha256,
    }
    if measured is not None:
        low, high = wilson(measured.correct, measured.images)
        accuracy = 100 * measured.correct / measured.images
        text += f" Accuracy: {accuracy:.2f}% of {measured.images:,} images, 95% interval {low:.2f} to {high:.2f}."
        properties["accuracy"] = _compact(
            {
                "accuracy_pct": round(accuracy, 6),
                "interval_pct": [round(low, 6), round(high, 6)],
                "correct": measured.correct,
                "images": measured.images,
            }
        )
        if measured.parity is not None:
            properties["parity"] = f"{measured.parity:.3e}"
        if measured.parity_images is not None:
            properties["parity_images"] = str(measured.parity_images)
    if optimiser is not None:
        properties["optimiser"] = optimiser
    model.doc_string = text
    del model.metadata_props[:]
    for key, value in sorted(properties.items()):
        model.metadata_props.add(key=key, value=value)


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
