"""The way back from a bundle: its networks as torch modules."""

from collections import OrderedDict
from pathlib import Path
from typing import overload

import torch
from torch import nn

from stimcore.bundle import open_bundle
from stimcore.nets.cut import copy_of
from stimcore.nets.staged import Part, StagedNet
from stimcore.reference.calibrate import recalibrated
from stimcore.runs.bundles import bundle_network, load_listed_statistics


@overload
def load(bundle: str | Path, spec: None = None, *, trust_code: bool = False) -> StagedNet: ...


@overload
def load(bundle: str | Path, spec: str, *, trust_code: bool = False) -> nn.Sequential: ...


def load(bundle: str | Path, spec: str | None = None, *, trust_code: bool = False) -> StagedNet | nn.Sequential:
    """Return a network of a bundle as a torch module in evaluation mode, on the CPU.

    The images must be normalised as the experiment says: `open_bundle(...).experiment.normalise`.

    Args:
        bundle: `exported/EXPERIMENT/METHOD`.
        spec: A sub-network: `d1-1-1`, `main`, `1-2.4.7-8`. It has the re-calibrated statistics of its exported file; where the
            bundle has no file of it, its batch norms are re-calibrated now, on the calibration images of the experiment.
            Without a spec the whole network is returned as training left it.
        trust_code: Whether modules that the bundle names as its network and its method may be imported, which runs their code.

    Returns:
        Without a spec the network as stages of blocks, of which every sub-network can be run and trained. With a spec the
        parts of this sub-network in a row, with weights of their own.

    Raises:
        BundleError: The bundle is broken, or was exported from another version of its network.
        SpecError: The network has no such sub-network.
        UsageError: The bundle names a module that is not trusted.

    Example:
        >>> module = load("exported/resnet20-fashion/stimulative", "d1-1-1")
        >>> list(dict(module.named_children())), module(torch.zeros(1, 1, 28, 28)).shape
        (['stem', 'block1', 'block4', 'block7', 'head'], torch.Size([1, 10]))
    """
    opened = open_bundle(Path(bundle))
    wanted = None if spec is None else opened.topology.parse(spec)
    net = bundle_network(opened, trust_code=trust_code)
    if wanted is None:
        return net
    listed = opened.listed(wanted)
    if listed is None:
        images = torch.from_numpy(opened.experiment.normalise(opened.experiment.calibration))
        net = recalibrated(net, wanted, images)
    parts = [Part(part.name, copy_of(part.module)) for part in net.route(wanted)]
    if listed is not None:
        load_listed_statistics(opened, listed, parts, torch.zeros(2, *net.input_shape))
    return nn.Sequential(OrderedDict((str(part.name), part.module) for part in parts)).eval()
