"""One file of all ordered sub-networks, whose second input chooses the depths; compared with every one of them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto

from stimcore.bundle import Bundle
from stimcore.bundle.store import update_bundle
from stimcore.engine.cuda import CPU
from stimcore.engine.engine import Engine
from stimcore.engine.graph.elastic import DEPTHS, elastic_graph
from stimcore.engine.metadata import Measured, add_metadata
from stimcore.engine.provider import session_options
from stimcore.engine.spotcheck import SLACK
from stimcore.errors import ParityError, UsageError
from stimcore.export.parity import FLOAT32, Floats, Parity, evaluation_logits, spread
from stimcore.export.standalone import FOLDER
from stimcore.subnets.families import count_ordered, ordered

FILE = "elastic.onnx"
MOST_SUBNETS = 4096
"""Ordered sub-networks that one file holds at most: each is run on all evaluation images."""
SAMPLE = 200
"""Evaluation images on which the logits of every depth are compared with the engine's."""


@dataclass(frozen=True, kw_only=True)
class Elastic:
    """A written file.

    Attributes:
        file: The file, below the bundle's folder.
        bytes: Its bytes.
        correct: Short form of an ordered sub-network -> evaluation images that the file classifies correctly with its depths.
        images: Number of evaluation images.
        parity: Largest difference of logits from the engine's over all depths, divided by the largest logit.
    """

    file: str
    bytes: int
    correct: dict[str, int]
    images: int
    parity: float

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "file": self.file,
            "bytes": self.bytes,
            "images": self.images,
            "parity": self.parity,
            "correct": self.correct,
        }


def write_elastic(bundle: Bundle, report: Callable[[int, int, str], None]) -> Elastic:
    """Write `standalone/elastic.onnx` into a bundle.

    Args:
        bundle: Opened and verified.
        report: Gets sub-networks done, sub-networks in all, and a line.

    Raises:
        UsageError: The layers of the network concatenate, or it has too many ordered sub-networks.
        ParityError: With some depths, the file gives other answers than the sub-network. Nothing is written then.
    """
    topology, experiment = bundle.topology, bundle.experiment
    number = count_ordered(topology)
    if topology.ordered_only:
        raise UsageError(f"{topology.network} as one file of all depths", allowed="networks whose layers don't concatenate")
    if number > MOST_SUBNETS:
        raise UsageError(f"{number:,} ordered sub-networks in one file", allowed=f"at most {MOST_SUBNETS:,}")
    engine, specs = Engine(bundle, device="cpu"), list(ordered(topology))
    model = elastic_graph(engine.graph, engine.calibrated(specs))
    _declare(model, experiment.image_shape, len(experiment.classes))
    session = ort.InferenceSession(model.SerializeToString(), session_options(), providers=[CPU])
    pixels, labels = experiment.evaluation
    sample = spread(len(labels), SAMPLE)
    images = experiment.normalise(pixels[sample])
    correct: dict[str, int] = {}
    worst = 0.0
    for done, spec in enumerate(specs, 1):
        run = partial(_run, session, np.array(topology.depths(spec), np.int64))
        logits = evaluation_logits(run, experiment)
        parity, name = Parity.of(logits[sample], engine.logits(spec, images)), topology.short(spec)
        if (reason := parity.complaint(f"{FILE} with the depths of {name}", FLOAT32)) is not None:
            raise ParityError(reason)
        worst, correct[name] = max(worst, parity.error), int((logits.argmax(1) == labels).sum())
        stored = bundle.known_correct(spec)
        if stored is not None and abs(stored - correct[name]) > SLACK:
            raise ParityError(f"{FILE} with the depths of {name} classifies {correct[name]:,} images correctly, not {stored:,}")
        report(done, len(specs), f"{FILE} {name}: {correct[name]:,} of {len(labels):,}")
    measured = Measured(correct=correct[topology.short(topology.full)], images=len(labels), parity=worst)
    add_metadata(model, experiment, bundle.manifest, topology.full, measured)
    model.doc_string += (
        f" Second input: {DEPTHS} [{len(topology.sizes)}], int64, the number of blocks that run in every stage, from 1 to "
        f"{', '.join(map(str, topology.sizes))}; the accuracy above is that of the greatest."
    )
    low, high = [1] * len(topology.sizes), list(topology.sizes)
    value = {"input": DEPTHS, "low": low, "high": high, "images": len(labels), "correct": correct}
    model.metadata_props.add(key="elastic", value=json.dumps(value, separators=(",", ":")))
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    update_bundle(bundle.path, lambda _present: {f"{FOLDER}/{FILE}": content})
    return Elastic(file=str(bundle.path / FOLDER / FILE), bytes=len(content), correct=correct, images=len(labels), parity=worst)


def _run(session: ort.InferenceSession, depths: NDArray[np.int64], images: Floats) -> Floats:
    """Return the logits of a batch of images with some depths."""
    logits: Floats = session.run(None, {"images": images, DEPTHS: depths})[0]
    return logits


def _declare(model: onnx.ModelProto, image_shape: tuple[int, ...], num_classes: int) -> None:
    """Give images and logits of a model their shapes, with any number of images."""
    for info, sizes in ((model.graph.input[0], image_shape), (model.graph.output[0], (num_classes,))):
        info.CopyFrom(onnx.helper.make_tensor_value_info(info.name, TensorProto.FLOAT, ["N", *sizes]))
