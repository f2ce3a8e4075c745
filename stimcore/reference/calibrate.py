"""Batch-norm re-calibration in torch, one sub-network at a time: the definition that the fast paths are checked against."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from stimcore.data.images import CALIBRATION_BATCH, calibration_batches
from stimcore.nets.norms import batch_norms
from stimcore.nets.staged import StagedNet
from stimcore.subnets.spec import Spec


@torch.no_grad()
def recalibrated(net: StagedNet, spec: Spec, images: Tensor, batch_size: int = CALIBRATION_BATCH) -> StagedNet:
    """Return a copy of the network, in evaluation mode, whose batch norms have the statistics of one sub-network.

    Where the sub-network has no batch norms, nothing runs.

    Args:
        net: The trained network; it is not changed.
        spec: The sub-network whose statistics are computed.
        images: Calibration images `[N, C, H, W]`, normalised.
        batch_size: Images per batch; see `stimcore.data.images.calibration_batches`. Every batch has the same weight in the
            average.

    Source: Yu & Huang 2019, "post-statistics of batch normalisation": plain average of batch mean and unbiased variance.
    """
    net = copy.deepcopy(net).eval()
    norms = [norm for part in net.route(spec) for norm in batch_norms(part.module)]
    start_calibration(norms)
    for batch in calibration_batches(len(images), batch_size) if norms else ():
        net(images[batch], spec)
    return net.eval()


def start_calibration(norms: Iterable[_BatchNorm]) -> None:
    """Make batch norms forget their statistics and collect the plain average over the batches that follow.

    With `momentum=None` torch averages over batches; any number would give the last batches more weight. Everything else in the
    network stays in evaluation mode, so that dropout and the like don't disturb the statistics.
    """
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
