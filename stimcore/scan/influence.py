"""Block influence: how much every block of the main network changes what enters it.

Source: Men et al. 2024, "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect", equation 1: 1 minus the
cosine of a block's input and output.
Differs: One cosine over all values of an image, where the paper takes one per token.
"""

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from stimcore.engine.cuda import CPU
from stimcore.engine.engine import Engine
from stimcore.engine.graph.fold import folded_graph
from stimcore.engine.prefix_tree import Unit
from stimcore.engine.provider import session_options
from stimcore.subnets.part_name import PartName

BATCH_BYTES = 256 << 20
"""Activations at all borders together, for the images that run at once."""
LARGEST_BATCH = 100


def block_influence(engine: Engine, report: Callable[[int], None] = lambda _done: None) -> NDArray[np.float32]:
    """Return 1 - cosine of input and output for every removable block, `[blocks, images]`, on the evaluation images.

    The main network runs with re-calibrated batch norms.

    Args:
        engine: An engine of the network.
        report: Gets the number of images that are done.
    """
    topology, experiment = engine.bundle.topology, engine.bundle.experiment
    route = engine.route(topology.full)
    blocks = [route.index(PartName.block(block)) for block in topology.removable]
    borders = sorted({end for place in blocks for end in (place, place + 1)})
    whole = Unit.whole(route)
    unit = Unit((), whole.steps[: borders[-1]], tuple(route[:end] for end in borders))
    model = folded_graph(engine.graph, unit, engine.calibrated([topology.full]))
    session = ort.InferenceSession(model.SerializeToString(), session_options(engine.threads), providers=[CPU])
    per_image = sum(engine.graph.image_bytes(route[end - 1]) for end in borders)
    batch = max(1, min(LARGEST_BATCH, BATCH_BYTES // max(1, per_image)))
    pixels = experiment.evaluation[0]
    influence = np.empty((len(blocks), len(pixels)), np.float32)
    for start in range(0, len(pixels), batch):
        values = session.run(None, {"in": experiment.normalise(pixels[start : start + batch])})
        flat = {end: value.reshape(len(value), -1).astype(np.float64) for end, value in zip(borders, values, strict=True)}
        for row, place in enumerate(blocks):
            influence[row, start : start + batch] = _distance(flat[place], flat[place + 1])
        report(min(start + batch, len(pixels)))
    return influence


def _distance(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 - cosine along the last axis; 0 where both are zero, 1 where one is."""
    scale = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    product = (before * after).sum(1)
    same = (before == after).all(1)
    distance: NDArray[np.float64] = np.where(
        same, 0.0, 1 - np.divide(product, scale, out=np.zeros_like(scale), where=scale > 0)
    )
    return distance
