"""What a server offers to train: networks of the catalogue, and data and networks that its operator has listed.

This module knows no torch, so that the names of methods and networks stand here a second time. A test compares them with the
catalogues of the training half.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stimcore import cli
from stimcore.data.listing import list_folder
from stimcore.errors import StimcoreError, UsageError
from stimcore.serve import types
from stimcore.serve.limits import Limits

METHODS = ("common", "stimulative", "layer_supervision", "stage_supervision", "self_distillation", "stochastic_depth")
"""Training methods that a request may name."""
NETWORKS = ("resnet8", "resnet14", "resnet20", "resnet32", "mobilenetv3-w0.5")
"""Networks that are suggested, the smallest first; `is_in_catalogue` accepts more."""
FASHION = "fashion-mnist"
PACES = {
    "resnet8": {"common": 982.0, "stimulative": 917.0},
    "resnet14": {"common": 534.0, "stimulative": 461.0},
    "resnet20": {"common": 399.0, "stimulative": 364.0},
    "mobilenetv3-w0.5": {"common": 430.0, "stimulative": 307.0},
}
"""Network -> method -> training images (28 x 28, one channel) per second on one core of an Intel Xeon: 640 images in 5 steps,
the better of two epochs by processor time, measured on 2026-11-28."""
MAX_DEPTH = 110
"""Layers of the deepest CIFAR ResNet that a request may name."""
BATCH_SIZE, MIN_BATCH_SIZE, MIN_STEPS = 128, 8, 10
"""Images in a step; fewer where an epoch would have less than `MIN_STEPS` steps."""

_CIFAR = re.compile(r"resnet([1-9][0-9]{0,2})\Z")
_OTHERS = ("mobilenetv3", "mobilenetv3-w0.5", "densenet-2-3-12-8-k12")
_FOLDER = re.compile(r"(?P<path>.+?)(?:@(?P<pixels>[1-9][0-9]{0,3}))?\Z", re.DOTALL)
_OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What the operator of a server allows.

    Attributes:
        allowed: Whether the server starts trainings at all.
        folders: Folders of pictures that may be trained on, as `PATH` or `PATH@PIXELS`.
        networks: Networks of the operator that may be trained, as `MODULE:FUNCTION`.
    """

    allowed: bool = False
    folders: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Images that a network can be trained on.

    Attributes:
        name: Name under which requests address it.
        argument: Value of `--dataset` of the training.
        per_class: Training images of the smallest class.
        num_classes: Number of classes.
        num_test: Test images; 0 where they are a share of the training images.
    """

    name: str
    argument: str
    per_class: int
    num_classes: int
    num_test: int = 0


def is_in_catalogue(network: str) -> bool:
    """Return whether a request may name a network: a CIFAR ResNet of 6n + 2 layers, or one of a few others.

    Example:
        >>> [is_in_catalogue(name) for name in ("resnet8", "resnet14", "resnet15", "resnet50", "mobilenetv3-w0.5", "os:abort")]
        [True, True, False, False, True, False]
    """
    match = _CIFAR.match(network)
    depth = int(match[1]) if match else 0
    # 50 is of the form 6n + 2 too, but the name belongs to the ResNet for ImageNet
    return network in _OTHERS or (8 <= depth <= MAX_DEPTH and depth % 6 == 2 and depth != 50)


def check_config(config: TrainingConfig) -> None:
    """Check what the operator has listed.

    Raises:
        UsageError: Something is listed although no training is allowed, a folder is missing, a network is no `MODULE:FUNCTION`,
            or two folders or networks share a name, which is that of their run folders.
    """
    if (config.folders or config.networks) and not config.allowed:
        raise UsageError("--train-folder or --train-network without --allow-training", allowed="these options together")
    for text in config.folders:
        path, _ = split_folder(text)
        if not path.is_dir():
            raise UsageError(f"there is no folder {path}", allowed="a folder that has one folder of pictures per class")
    names = [folder_name(text) for text in config.folders]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"two folders to train on are called '{twice}'", allowed="different names")
    if f"folder:{FASHION}" in names:
        raise UsageError(f"a folder to train on is called '{FASHION}', as a data set is", allowed="another name")
    for network in config.networks:
        if not _OWN.match(network):
            raise UsageError(f"--train-network {network[:80]}", allowed="MODULE:FUNCTION")
    # run folders are named after the functions
    functions = [network.rpartition(":")[2] for network in config.networks]
    if twice := next((name for name in functions if functions.count(name) > 1), None):
        raise UsageError(f"two networks to train are called '{twice}'", allowed="different names of functions")
    if known := next((name for name in functions if is_in_catalogue(name)), None):
        raise UsageError(
            f"a network to train is called '{known}', as one of the catalogue is", allowed="another name of the function"
        )


def split_folder(text: str) -> tuple[Path, int | None]:
    """Return path and pixels of a folder in the operator's list.

    Example:
        >>> split_folder("pictures/birds@32"), split_folder("pictures/birds")[1]
        ((PosixPath('pictures/birds'), 32), None)
    """
    match = _FOLDER.match(text)
    if match is None:
        return Path(text), None
    return Path(match["path"]), int(match["pixels"]) if match["pixels"] else None


def folder_name(text: str) -> str:
    """Return the name under which requests address a folder of the operator's list.

    Example:
        >>> folder_name("pictures/my birds@32")
        'folder:my-birds'
    """
    return "folder:" + (re.sub(r"[^\w.-]+", "-", split_folder(text)[0].resolve().name).strip(".-") or "pictures")


def data_sources(config: TrainingConfig) -> list[DataSource]:
    """Return the data that can be trained on; a folder that can't be read is left out, because requests can't use it."""
    sources = [DataSource(name=FASHION, argument=FASHION, per_class=6000, num_classes=10, num_test=10_000)]
    for text in config.folders:
        path, pixels = split_folder(text)
        try:
            listing = list_folder(path)
        except (StimcoreError, OSError):
            continue
        counts = [0] * len(listing.classes)
        for _, label in listing.train:
            counts[label] += 1
        argument = f"folder:{path.resolve()}" + (f"@{pixels}" if pixels else "")
        sources.append(
            DataSource(
                name=folder_name(text),
                argument=argument,
                per_class=min(counts),
                num_classes=len(counts),
                num_test=len(listing.test or ()),
            )
        )
    return sources


def why_not(config: TrainingConfig) -> str:
    """Return in one sentence why this server starts no training; empty where it does."""
    if not config.allowed:
        return "This server starts no training: its operator has not given --allow-training."
    if not cli.has_torch():
        return f"Training needs torch, which is not installed on the server's machine. {cli.install_line('torch', public=True)}"
    return ""


def describe(
    config: TrainingConfig, limits: Limits, sources: Sequence[DataSource], runs: Sequence[types.RunInfo]
) -> types.TrainingOffer:
    """Return what can be trained.

    Args:
        config: What the operator allows.
        limits: Bounds of the server.
        sources: The data.
        runs: Run folders, the last written first; their speed is better known than that of `PACES`.
    """
    reason = why_not(config)
    paces = {network: dict(methods) for network, methods in PACES.items()}
    for info in reversed(runs):
        speeds = [row["images_per_second"] for row in info.rows if isinstance(row.get("images_per_second"), int | float)]
        if info.network and speeds and speeds[-1] > 0:
            paces.setdefault(info.network, {})[info.method] = float(speeds[-1])
    return types.TrainingOffer(
        allowed=not reason,
        reason=reason,
        networks=() if reason else (*NETWORKS, *config.networks),
        methods=() if reason else METHODS,
        datasets=() if reason else [_info(source) for source in sources],
        paces={} if reason else paces,
        max_epochs=limits.training_epochs,
        max_trainings=limits.trainings,
    )


def _info(source: DataSource) -> types.TrainingData:
    return types.TrainingData(
        name=source.name, per_class=source.per_class, num_classes=source.num_classes, num_test=source.num_test
    )


def batch_size(num_images: int) -> int:
    """Return the images in a step of a training on so many images.

    Example:
        >>> batch_size(6000), batch_size(400), batch_size(20)
        (128, 32, 8)
    """
    size = BATCH_SIZE
    while size > MIN_BATCH_SIZE and num_images < MIN_STEPS * size:
        size //= 2
    return size
