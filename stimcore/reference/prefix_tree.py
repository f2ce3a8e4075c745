"""The torch reference along the tree of prefixes: the same operations as one by one, each shared prefix once.

`stimcore.reference.evaluate.evaluate` does it one by one; a test holds both together bit for bit. Batches go through the
whole tree one after the other, so memory holds one batch's activations along one path.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from stimcore.nets.norms import batch_norms
from stimcore.nets.staged import StagedNet
from stimcore.reference.calibrate import BATCH
from stimcore.subnets.part_name import PartName
from stimcore.subnets.topology import Spec

EVALUATION_BATCH = 500


@dataclass
class _Node:
    """A prefix: a copy of its last part with statistics of its own, what goes on, and the sub-networks that end here."""

    part: nn.Module
    children: dict[PartName, "_Node"] = field(default_factory=dict)
    specs: list[Spec] = field(default_factory=list)


@torch.no_grad()
def reference_logits(net: StagedNet, specs: Sequence[Spec], calibration: Tensor, images: Tensor) -> dict[Spec, Tensor]:
    """Logits `[N, K]` of every spec for images `[N, C, H, W]`, batch norms re-calibrated.

    Args:
        net: In evaluation mode; left untouched.
        specs: Sub-networks.
        calibration: `[M, C, H, W]`, normalised.
        images: Normalised.
    """
    root = _tree(net, specs)
    norms = [norm for node in _below(root) for norm in batch_norms(node.part)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for batch in torch.split(calibration, BATCH):
        for _ in _through(root, batch):
            pass
    for norm in norms:
        norm.eval()
    found: dict[Spec, list[Tensor]] = {spec: [] for spec in specs}
    for batch in torch.split(images, EVALUATION_BATCH):
        for spec, logits in _through(root, batch):
            found[spec].append(logits)
    return {spec: torch.cat(batches) for spec, batches in found.items()}


def _tree(net: StagedNet, specs: Sequence[Spec]) -> _Node:
    root = _Node(nn.Identity())
    for spec in specs:
        node = root
        for part in net.route(spec):
            if part.name not in node.children:
                node.children[part.name] = _Node(copy.deepcopy(part.module).eval())
            node = node.children[part.name]
        node.specs.append(spec)
    return root


def _below(node: _Node) -> Iterator[_Node]:
    for child in node.children.values():
        yield child
        yield from _below(child)


def _through(node: _Node, x: Tensor) -> Iterator[tuple[Spec, Tensor]]:
    """Sends one batch on from a node; yields what comes out at the ends."""
    for child in node.children.values():
        out = child.part(x)
        for spec in child.specs:
            yield spec, out
        yield from _through(child, out)
