"""Conversion of a checkpoint of another program into a run folder, which everything else reads like a trained run.

Only tensors are read (`weights_only=True`), never arbitrary pickles.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from stimcore import files
from stimcore.data.normalise import Normalisation
from stimcore.data.sources import load
from stimcore.errors import CheckpointError, Unavailable, UsageError
from stimcore.nets.catalogue import build, native_shape
from stimcore.runs import checkpoint
from stimcore.runs.machine import describe
from stimcore.runs.run import IMPORTED, Run
from stimcore.runs.trained_run import TrainedRun, load_weights

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts store the weights, next to numbers of their own."""
_TORCHVISION = re.compile(r"[A-Z][A-Z0-9]*_[A-Z0-9_]+\Z")
"""Names of torchvision's weights, such as IMAGENET1K_V2."""
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)")
"""Keys of torchvision's DenseNet files, which write `norm.1` where its modules have `norm1`."""
_GLOBAL = re.compile(r"GLOBAL (\S+)")
"""What torch's error message calls an object that is not a tensor."""


@dataclass(frozen=True, kw_only=True)
class ImageFormat:
    """The images that a converted network is evaluated on.

    Attributes:
        dataset: Name of the data set.
        shape: Shape `[C, H, W]` of an image.
        num_classes: Number of classes.
        data_root: Folder of the data set; None for the default.
        notes: What was left out, or done to images besides reading them.
    """

    dataset: str
    shape: tuple[int, int, int]
    num_classes: int
    data_root: Path | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The weights in a checkpoint.

    Attributes:
        name: The name under which they were asked for.
        tensors: Key of the catalogue's network -> tensor.
        left_out: Names of entries that are stored next to the weights and not used.
        source: The origin of the weights; for a file its name and SHA-256 hash.
    """

    name: str
    tensors: Mapping[str, Tensor]
    left_out: tuple[str, ...] = ()
    source: str


def image_format(network: str, dataset: str | None, data_root: Path | None) -> ImageFormat:
    """Return the images of a data set, or those that the network was made for when `dataset` is None.

    Raises:
        UsageError: No data set is given for a network that needs one.
    """
    if dataset is not None:
        images = load(dataset, data_root)
        return ImageFormat(
            dataset=dataset,
            shape=images.image_shape,
            num_classes=len(images.classes),
            data_root=data_root,
            notes=images.notes,
        )
    shape, classes = native_shape(network)
    if classes != 10:
        raise UsageError(f"no --dataset for {network}", allowed="imagenet, folder:PATH@224 for a folder of images, or a data set's name")
    return ImageFormat(dataset="cifar10", shape=shape, num_classes=classes, data_root=data_root)


def convert(weights: Weights, network: str, images: ImageFormat, normalisation: Normalisation, folder: Path) -> TrainedRun:
    """Write weights as a run folder and return the run.

    Args:
        weights: Weights for the network.
        network: Name in the catalogue of networks.
        images: The images that the network is evaluated on.
        normalisation: Mean and standard deviation that the network was trained with.
        folder: The run folder; it must not hold a run yet.

    Raises:
        CheckpointError: The weights don't fit the network; the message names them.
    """
    net = build(network, input_shape=images.shape, num_classes=images.num_classes)
    tensors = dict(weights.tensors)
    for key, value in net.module.state_dict().items():
        if key.endswith("num_batches_tracked"):  # torch has this counter since 0.4.1; older checkpoints lack it
            tensors.setdefault(key, torch.zeros_like(value))
    load_weights(net, tensors, weights.name)
    run = Run(
        network=network,
        input_shape=images.shape,
        num_classes=images.num_classes,
        method=IMPORTED,
        seed=0,
        dataset=images.dataset,
        data_root=None if images.data_root is None else str(images.data_root),
        mean=normalisation.mean,
        std=normalisation.std,
        options={},
        recipe={},
        source=weights.source,
        machine=describe(torch.device("cpu")),
    )
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().clone() for key, value in net.module.state_dict().items()}
    path = checkpoint.save(folder, checkpoint.Checkpoint(epoch=0, network=state, auxiliary={}, optimizer={}, scaler={}))
    run.write(folder)
    return TrainedRun(folder=folder, run=run, net=net.eval(), checkpoint=path)


def read_weights(name: str, network: str) -> Weights:
    """Return the weights of a checkpoint under the keys of the catalogue's network.

    Args:
        name: A file, or torchvision's name of weights, which torchvision then downloads.
        network: Name in the catalogue of networks.

    Raises:
        CheckpointError: The file can't be read, or holds something else than tensors; the message names it.
        UsageError: There is neither such a file nor such weights.
        Unavailable: torchvision's weights could not be downloaded.
    """
    path = Path(name)
    left_out: tuple[str, ...] = ()
    if path.is_file():
        tensors, left_out = _unwrapped(_load(path), name)
        source = f"{path.name} (sha256 {files.sha256(path)})"
    elif _TORCHVISION.match(name):
        tensors, source = _download(name, network), f"torchvision's {network} {name}"
    else:
        raise UsageError(f"there is no file {name}", allowed="a file of weights, or torchvision's name such as IMAGENET1K_V1")
    if all(key.startswith("module.") for key in tensors):  # saved from torch's DataParallel
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    tensors = {_OLD_DENSENET.sub(r"\1", key): value for key, value in tensors.items()}
    return Weights(name=name, tensors=tensors, left_out=left_out, source=source)


def _load(path: Path) -> Any:
    """Return the content of a file of tensors and plain values."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as reason:  # torch raises many types of errors for broken files
        names = sorted(set(_GLOBAL.findall(str(reason))))
        what = f"it holds {', '.join(names)}, and not tensors alone" if names else type(reason).__name__
        raise CheckpointError(
            f"{path} can't be read as weights: {what}", todo="Save the state dict alone: torch.save(net.state_dict(), FILE)."
        ) from reason


def _unwrapped(value: Any, name: str) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """Return the mapping of tensors in the content of a file, and the names of the entries next to it."""
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{name} holds a {type(value).__name__}", allowed="a state dict: names with tensors")
    inside = [key for key in WRAPPERS if isinstance(value.get(key), Mapping)]
    weights = value[inside[0]] if inside else value
    others = [str(key) for key, item in weights.items() if not isinstance(item, Tensor)]
    if others or not weights:
        what = "no tensors" if not weights else f"what is no tensor: {', '.join(others[:8])}"
        raise CheckpointError(f"{name} holds {what}", allowed="a state dict, alone or as " + " or ".join(WRAPPERS))
    return weights, tuple(str(key) for key in value if inside and key != inside[0])


def _download(name: str, network: str) -> Mapping[str, Tensor]:
    """Return weights that torchvision downloads, or finds in its cache."""
    model = "mobilenet_v3_large" if network == "mobilenetv3" else network
    try:
        weights = get_model_weights(model)
    except ValueError as reason:
        raise UsageError(f"torchvision has no weights of {network}", allowed="a file of weights") from reason
    if name not in weights.__members__:
        raise UsageError(f"torchvision has no weights {name} of {network}", allowed=", ".join(weights.__members__))
    try:
        tensors: Mapping[str, Tensor] = weights[name].get_state_dict(progress=False, check_hash=True, weights_only=True)
    except OSError as reason:
        raise Unavailable(
            f"torchvision's {network} {name} could not be downloaded ({reason})",
            todo=f"Download {weights[name].url} elsewhere and give the file as CHECKPOINT.",
        ) from reason
    return tensors
