"""The self-contained file of one sub-network: optimised, run in plain onnxruntime, and with its results in its description."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort

from stimcore.bundle import Bundle
from stimcore.engine.cuda import CPU
from stimcore.engine.graph.optimise import NOT_INSTALLED, optimised_graph
from stimcore.engine.inference import Floats
from stimcore.engine.metadata import Measured, add_metadata
from stimcore.engine.provider import session_options
from stimcore.errors import BundleError
from stimcore.subnets.spec import Spec

SAMPLE_IMAGES = 100
"""Evaluation images on which a self-contained file is compared with the engine; also for accuracies that are not stored."""
LARGEST_DIFFERENCE = 1e-4
"""How far its logits may be from the engine's, as a share of the largest logit; the exporter allows the same."""


def verified_file(
    composed: onnx.ModelProto, bundle: Bundle, spec: Spec, engine_logits: Callable[[Floats], Floats], *, threads: int
) -> bytes:
    """Return a composed sub-network as a file that has run on a sample of the evaluation images.

    The optimiser is a library of its own. Where its graph gives other logits, the graph as it was composed takes its place, and
    the description of the file says so.

    Args:
        composed: The sub-network, with re-calibrated batch norms folded, input `images` and output `logits`.
        bundle: The bundle that it is part of.
        spec: The sub-network.
        engine_logits: Returns the engine's logits `[B, K]` of normalised images `[B, C, H, W]`.
        threads: Threads on which the file runs.

    Raises:
        BundleError: The file gives other logits than the engine.
    """
    model, optimiser = optimised_graph(composed)
    pixels, labels = bundle.experiment.evaluation
    # spread evenly: the images of a folder are sorted by class
    sample = np.linspace(0, len(labels) - 1, min(SAMPLE_IMAGES, len(labels))).astype(np.int64)
    images = bundle.experiment.normalise(pixels[sample])
    expected = engine_logits(images)
    logits, parity = _compared(model, images, expected, threads)
    if parity > LARGEST_DIFFERENCE and optimiser != NOT_INSTALLED:
        model, optimiser = composed, "none (the optimised graph gave other logits)"
        logits, parity = _compared(model, images, expected, threads)
    # a comparison with NaN is false: written this way round, logits that are not numbers are refused
    if not parity <= LARGEST_DIFFERENCE:
        raise BundleError(f"the self-contained file of {spec} gives other logits than the bundle ({parity:.1e} of the largest)")
    correct, count = bundle.known_correct(spec), bundle.manifest.images
    if correct is None:
        correct, count = int((logits.argmax(1) == labels[sample]).sum()), len(sample)
    measured = Measured(correct=correct, images=count, parity=parity, parity_images=len(sample))
    add_metadata(model, bundle.experiment, bundle.manifest, spec, measured, optimiser=optimiser)
    serialised: bytes = model.SerializeToString()
    return serialised


def _compared(model: onnx.ModelProto, images: Floats, expected: Floats, threads: int) -> tuple[Floats, float]:
    """Return the logits of a model in plain onnxruntime, and how far they are from what is expected.

    The distance is the largest difference, divided by the largest logit; NaN where logits are no numbers.
    """
    session = ort.InferenceSession(model.SerializeToString(), session_options(threads), providers=[CPU])
    logits: Floats = session.run(None, {"images": images})[0]
    return logits, float(np.abs(logits - expected).max() / np.abs(expected).max())
