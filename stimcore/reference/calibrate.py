"""Batch-norm re-calibration in torch: the plain reference that the fast path is checked against."""

import copy

import torch
from torch import Tensor

from stimcore.nets.norms import batch_norms
from stimcore.nets.staged import StagedNet
from stimcore.subnets.spec import Spec

BATCH = 256
"""Calibration images per batch (a choice; docs/semantics.md, "Batch-norm re-calibration")."""


@torch.no_grad()
def recalibrated(net: StagedNet, spec: Spec, images: Tensor, batch_size: int = BATCH) -> StagedNet:
    """A copy of the network whose batch norms hold the statistics of one sub-network, ready to evaluate.

    Args:
        net: Left untouched.
        spec: The sub-network whose statistics are wanted.
        images: Calibration images `[N, C, H, W]`, normalised.
        batch_size: The last batch may be smaller; all batches weigh the same.

    Source: Yu & Huang 2019, "post-statistics of batch normalisation": plain average of batch mean and unbiased variance.
    """
    net = copy.deepcopy(net).eval()
    for part in net.route(spec):
        for norm in batch_norms(part.module):
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
    for batch in torch.split(images, batch_size):
        net(batch, spec)
    return net.eval()
