"""The torch reference along the tree of prefixes: the same operations as one by one, each shared prefix once.

`stimcore.evaluation.evaluate` does it one by one; a test holds both together bit for bit.
"""

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from stimcore.calibration import BATCH
from stimcore.nets.norms import batch_norms
from stimcore.nets.staged import Part, StagedNet
from stimcore.topology import Spec

EVALUATION_BATCH = 500


@torch.no_grad()
def reference_logits(
    net: StagedNet, specs: Sequence[Spec], calibration: Tensor, images: Tensor
) -> Iterator[tuple[Spec, Tensor]]:
    """Logits `[N, K]` of every spec for images `[N, C, H, W]`, batch norms re-calibrated, in the order of the tree.

    Args:
        net: In evaluation mode; left untouched.
        specs: Sub-networks.
        calibration: `[M, C, H, W]`, normalised.
        images: Normalised.
    """
    routes = [(spec, net.route(spec)) for spec in specs]
    yield from _below(routes, 0, list(torch.split(calibration, BATCH)), list(torch.split(images, EVALUATION_BATCH)))


def _below(
    routes: Sequence[tuple[Spec, list[Part]]], depth: int, calibration: list[Tensor], images: list[Tensor]
) -> Iterator[tuple[Spec, Tensor]]:
    """Routes that agree in their first `depth` parts, given what comes out of these."""
    groups: dict[str, list[tuple[Spec, list[Part]]]] = {}
    for spec, route in routes:
        groups.setdefault(route[depth].name, []).append((spec, route))
    for group in groups.values():
        part = copy.deepcopy(group[0][1][depth].module).eval()
        measured = _measured(part, calibration)
        out = [part(batch) for batch in images]
        ended = [spec for spec, route in group if len(route) == depth + 1]
        for spec in ended:
            yield spec, torch.cat(out)
        further = [(spec, route) for spec, route in group if len(route) > depth + 1]
        if further:
            yield from _below(further, depth + 1, measured, out)


def _measured(part: nn.Module, calibration: list[Tensor]) -> list[Tensor]:
    """Re-calibrates one part and returns what comes out of it for the calibration images."""
    norms = batch_norms(part)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    out = [part(batch) for batch in calibration]
    for norm in norms:
        norm.eval()
    return out
