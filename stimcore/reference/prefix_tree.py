"""The torch reference for many sub-networks at once: the same operations as one by one, every shared prefix only once.

Under the hood, the routes of all sub-networks are merged into a tree: two sub-networks that begin with the same parts share the
nodes of these parts. A node holds a copy of its part, because a batch norm that is reached through other blocks sees other
activations and needs other statistics. Two routes that have the same parts up to a node send it the same activations, so its
statistics are right for both. Every batch goes through the whole tree before the next one begins, so that memory holds the
activations of one batch along one path only.

`stimcore.reference.evaluate.evaluate` is the definition; a test checks that both give equal logits bit for bit.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from stimcore.data.images import Images, calibration_batches
from stimcore.data.normalise import Normalisation
from stimcore.nets.norms import batch_norms
from stimcore.nets.staged import StagedNet
from stimcore.reference.calibrate import start_calibration
from stimcore.reference.evaluate import REFERENCE_BATCH, Predictions, as_tensor
from stimcore.subnets.part_name import PartName
from stimcore.subnets.spec import Spec


@dataclass
class _Node:
    """A prefix of routes.

    Attributes:
        part: A copy of the last part of the prefix, with batch-norm statistics for this prefix.
        children: Name of the next part -> the prefix that is longer by this part.
        specs: Sub-networks whose whole route is this prefix.
    """

    part: nn.Module
    children: dict[PartName, "_Node"] = field(default_factory=dict)
    specs: list[Spec] = field(default_factory=list)


def reference_logits(net: StagedNet, specs: Sequence[Spec], calibration: Tensor, images: Tensor) -> dict[Spec, Tensor]:
    """Return the logits `[N, K]` of every sub-network, batch norms re-calibrated.

    Args:
        net: The trained network; it is not changed.
        specs: Sub-networks.
        calibration: Images for the batch norms `[M, C, H, W]`, normalised.
        images: Images to classify `[N, C, H, W]`, normalised.
    """
    batches = (calibration[batch] for batch in calibration_batches(len(calibration)))
    return _logits(net, specs, batches, torch.split(images, REFERENCE_BATCH))


def evaluate_together(
    net: StagedNet, specs: Sequence[Spec], images: Images, normalisation: Normalisation, *, calibration: Images
) -> dict[Spec, Predictions]:
    """Return the predictions of several sub-networks for the same images, equal to those of `evaluate` one by one.

    Args:
        net: The trained network; it is not changed.
        specs: Sub-networks, each once.
        images: Images to classify.
        normalisation: Mean and standard deviation that the network was trained with.
        calibration: Images for the batch norms; every sub-network starts from the trained weights.
    """
    device = next(net.parameters()).device

    def tensors(source: Images, batches: Iterable[slice]) -> Iterator[Tensor]:
        for batch in batches:
            yield as_tensor(source.pixels[batch], normalisation, device)

    evaluation = [slice(start, start + REFERENCE_BATCH) for start in range(0, len(images), REFERENCE_BATCH)]
    measuring = tensors(calibration, calibration_batches(len(calibration)))
    logits = _logits(net, specs, measuring, tensors(images, evaluation))
    return {spec: Predictions(outputs.float().numpy(), images.labels) for spec, outputs in logits.items()}


@torch.no_grad()
def _logits(
    net: StagedNet, specs: Sequence[Spec], calibration: Iterable[Tensor], images: Iterable[Tensor]
) -> dict[Spec, Tensor]:
    """Return the logits `[N, K]` of every sub-network on the CPU, from normalised batches."""
    root = _tree(net, specs)
    norms = [norm for node in _descendants(root) for norm in batch_norms(node.part)]
    start_calibration(norms)
    # In training mode a batch norm normalises with the statistics of the batch, whatever it has collected so far. What a node
    # passes on therefore doesn't depend on earlier batches, and one pass calibrates all depths of the tree at once.
    for batch in calibration:
        for _ in _leaf_outputs(root, batch):
            pass
    for norm in norms:
        norm.eval()
    outputs: dict[Spec, list[Tensor]] = {spec: [] for spec in specs}
    for batch in images:
        for spec, logits in _leaf_outputs(root, batch):
            outputs[spec].append(logits.cpu())
    return {spec: torch.cat(batches) for spec, batches in outputs.items()}


def _tree(net: StagedNet, specs: Sequence[Spec]) -> _Node:
    """Return the root of the tree of prefixes; it stands for the empty prefix and passes images on unchanged."""
    root = _Node(nn.Identity())
    for spec in specs:
        node = root
        for part in net.route(spec):
            if part.name not in node.children:
                node.children[part.name] = _Node(copy.deepcopy(part.module).eval())
            node = node.children[part.name]
        node.specs.append(spec)
    return root


def _descendants(node: _Node) -> Iterator[_Node]:
    """Yield all nodes below a node."""
    for child in node.children.values():
        yield child
        yield from _descendants(child)


def _leaf_outputs(node: _Node, x: Tensor) -> Iterator[tuple[Spec, Tensor]]:
    """Send the output `x` of a node through everything below it; yield every sub-network with its logits."""
    for child in node.children.values():
        out = child.part(x)
        for spec in child.specs:
            yield spec, out
        yield from _leaf_outputs(child, out)
