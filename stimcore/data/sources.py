"""The table of named data sets, and the one function that loads any of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from stimcore.data.fashion import fashion_mnist, torchvision_datasets
from stimcore.data.folder import IMAGENET_SHORTER, IMAGENET_SIDE, folder_and_size, image_folder
from stimcore.data.images import Dataset, Images
from stimcore.data.normalise import CIFAR10, CIFAR100, IMAGENET
from stimcore.errors import DataMissing, UsageError

DEFAULT_ROOT = Path("~/.cache/stimcore").expanduser()
"""Folder for data sets when none is given."""


def _cifar(data_root: Path, classes: int) -> Dataset:
    """Return CIFAR-10 or CIFAR-100, downloaded into `data_root` when it is not there."""
    module = torchvision_datasets()
    kind = module.CIFAR10 if classes == 10 else module.CIFAR100
    try:
        parts = [kind(str(data_root), train=part, download=True) for part in (True, False)]
    except Exception as reason:
        raise DataMissing(
            f"CIFAR-{classes} was looked for in {data_root} and could not be downloaded ({type(reason).__name__})",
            todo=f"Unpack the official Python version of CIFAR-{classes} there, or give its folder as --data-root.",
        ) from reason
    images = [
        Images(pixels=np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), labels=np.array(part.targets, np.int64))
        for part in parts
    ]
    known = CIFAR10 if classes == 10 else CIFAR100
    return Dataset(
        name=f"cifar{classes}",
        train=images[0],
        test=images[1],
        classes=tuple(parts[0].classes),
        mean=known.mean,
        std=known.std,
    )


def _imagenet(data_root: Path) -> Dataset:
    """Return ImageNet-1k at 224 pixels from its unpacked folders; it can't be downloaded without an account."""
    root = next((folder for folder in (data_root / "imagenet", data_root) if (folder / "train").is_dir()), None)
    if root is None:
        raise DataMissing(
            f"ImageNet was looked for in {data_root / 'imagenet'} and {data_root}: neither has a folder train/",
            todo="Unpack it into train/CLASS/*.JPEG and val/CLASS/*.JPEG, and give the folder that holds both as --data-root.",
        )
    images = image_folder(root, size=IMAGENET_SIDE, enlarge=IMAGENET_SHORTER / IMAGENET_SIDE)
    return replace(images, name="imagenet", mean=IMAGENET.mean, std=IMAGENET.std)


DATASETS: dict[str, Callable[[Path], Dataset]] = {
    "fashion-mnist": fashion_mnist,
    "cifar10": lambda root: _cifar(root, 10),
    "cifar100": lambda root: _cifar(root, 100),
    "imagenet": _imagenet,
}
"""Name -> function of the folder that holds the data set, or into which it is downloaded."""


def load(name: str, data_root: Path | None = None) -> Dataset:
    """Return a data set by name, or any folder of images.

    Args:
        name: A key of `DATASETS`, or `folder:PATH`, or `folder:PATH@32` for images of 32 pixels.
        data_root: The folder that holds the data set, or into which it is downloaded; `DEFAULT_ROOT` when None.

    Raises:
        UsageError: There is no data set of that name, or the size is out of range.
        DataMissing: The data set is not in the folder and can't be downloaded.
    """
    if name.startswith("folder:"):
        path, size = folder_and_size(name.removeprefix("folder:"))
        return image_folder(path, size=size)
    if name not in DATASETS:
        raise UsageError(
            f"there is no data set '{name}'", allowed=", ".join(DATASETS) + ", folder:PATH for any folder of images"
        )
    return DATASETS[name]((data_root or DEFAULT_ROOT).expanduser())
