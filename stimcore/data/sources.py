"""The table of named data sets, and the one function that loads any of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from stimcore.data.enlarged import EnlargedPixels
from stimcore.data.fashion import fashion_mnist, torchvision_datasets
from stimcore.data.folder import IMAGENET_SHORTER, IMAGENET_SIDE, folder_and_size, image_folder, side_of
from stimcore.data.images import Dataset, Images
from stimcore.data.normalise import CIFAR10, CIFAR100, IMAGENET
from stimcore.data.preprocessing import Preprocessing, Resize
from stimcore.errors import DataMissing, UsageError
from stimcore.files import expanded

DEFAULT_ROOT = expanded(Path("~/.cache/stimcore"))
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
        name: A key of `DATASETS`, or `folder:PATH`; followed by `@224` for images that are resized to 224 pixels.
        data_root: The folder that holds the data set, or into which it is downloaded; `DEFAULT_ROOT` when None.

    Raises:
        UsageError: There is no data set of that name, or the size is out of range.
        DataMissing: The data set is not in the folder and can't be downloaded.
    """
    if name.startswith("folder:"):
        path, size = folder_and_size(name.removeprefix("folder:"))
        return image_folder(path, size=size)
    plain, size = _name_and_size(name)
    if plain not in DATASETS:
        raise UsageError(
            f"there is no data set '{name}'", allowed=", ".join(DATASETS) + ", folder:PATH for any folder of images"
        )
    if size is not None and plain == "imagenet":
        raise UsageError(f"a size for {plain}", allowed=f"{plain} alone, which has {IMAGENET_SIDE} pixels, or folder:PATH@SIZE")
    dataset = DATASETS[plain](expanded(data_root or DEFAULT_ROOT))
    return dataset if size is None else _resized(dataset, size)


def _name_and_size(text: str) -> tuple[str, int | None]:
    name, at, size = text.partition("@")
    return name, side_of(size) if at and name in DATASETS else None


def _resized(dataset: Dataset, size: int) -> Dataset:
    """Return a data set whose images are resized when they are read; what is stored and exported stays as it is."""
    channels, height, width = dataset.image_shape
    if (height, width) == (size, size):
        return dataset
    steps = Preprocessing(
        mode="L" if channels == 1 else "RGB",
        resize=Resize(shorter=size, filter="bilinear"),
        crop=(size, size),
        normalisation=dataset.normalisation,
    )
    train, test = (
        Images(pixels=cast(NDArray[np.uint8], EnlargedPixels(part.stored, steps)), labels=part.labels)
        for part in (dataset.train, dataset.test)
    )
    return replace(dataset, name=f"{dataset.name}@{size}", train=train, test=test, preprocessing=steps)
