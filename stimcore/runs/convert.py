"""Conversion of a checkpoint of another program into a run folder, which everything else reads like a trained run."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

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
from stimcore.runs.trained_run import TrainedRun, check_numbers, load_weights
from stimcore.runs.weights import Weights, check_plain, read_file, rename, write_safetensors

TORCHVISION = "torchvision:"
"""What may stand in front of torchvision's name of weights."""
_TORCHVISION = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9_]+)?\Z")
"""Names of torchvision's weights, such as IMAGENET1K_V2 and DEFAULT."""


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
        raise UsageError(
            f"no --dataset for {network}", allowed="imagenet, folder:PATH@224 for a folder of images, or a data set's name"
        )
    return ImageFormat(dataset="cifar10", shape=shape, num_classes=classes, data_root=data_root)


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A run folder that was made of weights.

    Attributes:
        trained: The run.
        outside: Keys of the file that lie outside of the network.
        counted_anew: Number of batch norms whose counter of batches the file lacks.
        without_statistics: Batch norms without running statistics in the file; they have mean 0 and variance 1 until they are
            re-calibrated.
    """

    trained: TrainedRun
    outside: tuple[str, ...] = ()
    counted_anew: int = 0
    without_statistics: tuple[str, ...] = ()


def convert(weights: Weights, network: str, images: ImageFormat, normalisation: Normalisation, folder: Path) -> Converted:
    """Write weights as a run folder.

    Args:
        weights: Weights for the network.
        network: Name in the catalogue of networks.
        images: The images that the network is evaluated on.
        normalisation: Mean and standard deviation that the network was trained with.
        folder: The run folder; it must not hold a run yet.

    Raises:
        CheckpointError: The weights don't fit the network, or are not finite; the message names them.
    """
    net = build(network, input_shape=images.shape, num_classes=images.num_classes)
    own = net.module.state_dict()
    renamed = rename(weights.tensors, own, weights.name)
    tensors = dict(renamed.tensors)
    norms = [key.removesuffix("running_mean") for key in own if key.endswith("running_mean")]
    # torch has this counter since 0.4.1; older checkpoints lack it
    uncounted = [norm for norm in norms if f"{norm}num_batches_tracked" not in tensors]
    # a network whose batch norms keep no statistics has none to save; a norm of which a part is missing is refused
    bare = [norm for norm in uncounted if not {f"{norm}running_mean", f"{norm}running_var"} & set(tensors)]
    fresh = [f"{norm}num_batches_tracked" for norm in uncounted]
    if len(bare) == len(norms):
        fresh += [f"{norm}{key}" for norm in bare for key in ("running_mean", "running_var")]
    else:
        bare = []
    tensors |= {key: own[key] for key in fresh if key in own}
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
    files.remove_unfinished(folder)
    state = {key: value.detach().clone() for key, value in net.module.state_dict().items()}
    path = checkpoint.save(folder, checkpoint.Checkpoint(epoch=0, network=state, auxiliary={}, optimizer={}, scaler={}))
    run.write(folder)
    return Converted(
        trained=TrainedRun(folder=folder, run=run, net=net.eval(), checkpoint=path),
        outside=renamed.outside,
        counted_anew=len(uncounted),
        without_statistics=tuple(norm.removesuffix(".") for norm in bare),
    )


def read_weights(name: str, network: str, *, averaged: bool = False) -> Weights:
    """Return the weights of a checkpoint.

    Args:
        name: A file, or torchvision's name of weights, which torchvision then downloads; `torchvision:` may precede it.
        network: Name in the catalogue of networks.
        averaged: Take the average of the weights over the steps of training.

    Raises:
        CheckpointError: The file can't be read, or holds something else than tensors; the message names it.
        UsageError: There is neither such a file nor such weights.
        Unavailable: torchvision's weights could not be downloaded.
    """
    path = Path(name)
    if path.is_file():
        tensors, details = read_file(path, averaged=averaged)
        return Weights(name=name, tensors=tensors, source=f"{path.name} (sha256 {files.sha256(path)})", **details)
    if path.is_dir():
        raise UsageError(f"{name} is a folder", allowed="a file of weights")
    known = name.removeprefix(TORCHVISION).rpartition(".")[2]
    if not _TORCHVISION.match(known):
        raise UsageError(f"there is no file {name}", allowed="a file of weights, or torchvision's name such as IMAGENET1K_V1")
    if averaged:
        raise UsageError(f"averaged weights of torchvision's {known}", allowed="a file of weights")
    return Weights(name=name, tensors=_download(known, network), source=f"torchvision's {network} {known}")


def about(weights: Weights) -> Iterator[str]:
    """Yield a line for everything in a checkpoint that was not taken, and one for an average that was taken."""
    if weights.averaged:
        yield "the weights are an average over the steps of training (EMA)"
    if weights.left_out:
        yield f"left out, as these are no weights: {', '.join(weights.left_out)}"
    if weights.other_weights:
        how = (
            "leave out --ema to take the others" if weights.averaged else "--ema takes the average over the steps, if it is one"
        )
        yield f"left out, as these are other weights: {', '.join(weights.other_weights)} ({how})"


def write_weights(folder: Path, target: Path) -> None:
    """Write the newest weights of a run folder as one file for other programs.

    Args:
        folder: The run folder.
        target: A file that ends with `.safetensors`, or `.pt` for a state dict that `torch.load` reads.

    Raises:
        CheckpointError: The folder is not a run folder or has no readable checkpoint.
        UsageError: The file exists, or its name ends otherwise.
        OSError: The file could not be written; the error names it.
    """
    if target.suffix not in (".safetensors", ".pt", ".pth"):
        raise UsageError(f"--to {target}", allowed="a name that ends with .safetensors, .pt or .pth")
    if target.exists():
        raise UsageError(f"{target} exists", todo="Give another name with --to.")
    run = Run.read(folder)
    newest = checkpoint.newest(folder)
    if newest is None:
        raise CheckpointError(f"{folder} has no checkpoint yet", todo="Train at least one epoch first.")
    path, state, _ = newest
    for key, value in state.network.items():
        check_plain(value, key, str(path))
    # the network is not built for this, which would import the code of an own one
    check_numbers(state.network, state.network, f"{path} is of no use")
    tensors = {key: value.contiguous() for key, value in state.network.items()}
    description = {
        "network": run.network,
        "spec": run.spec or "",
        "method": run.method,
        "seed": str(run.seed),
        "epoch": str(state.epoch),
        "input_shape": "x".join(map(str, run.input_shape)),
        "num_classes": str(run.num_classes),
        "mean": ",".join(f"{value:g}" for value in run.mean),
        "std": ",".join(f"{value:g}" for value in run.std),
        "checkpoint_sha256": files.sha256(path),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".safetensors":
        write_safetensors(tensors, target, description)
    else:
        checkpoint.write(target, tensors)


def _download(name: str, network: str) -> Mapping[str, Tensor]:
    """Return weights that torchvision downloads, or finds in its cache."""
    model = "mobilenet_v3_large" if network == "mobilenetv3" else network.removeprefix(TORCHVISION)
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
            todo=f"Download {weights[name].url} elsewhere and give the file instead.",
        ) from reason
    return tensors
