"""The table of named data sets, and the one function that finds any of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torchvision

from stimcore.data.fashion import fashion_mnist
from stimcore.data.folder import image_folder
from stimcore.data.images import Dataset, Images
from stimcore.errors import DataMissing, UsageError

DEFAULT_ROOT = Path("~/.cache/stimcore").expanduser()


def _cifar(data_root: Path, classes: int) -> Dataset:
    kind = torchvision.datasets.CIFAR10 if classes == 10 else torchvision.datasets.CIFAR100
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
    mean, std = {
        10: ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        100: ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    }[classes]
    return Dataset(name=f"cifar{classes}", train=images[0], test=images[1], classes=tuple(parts[0].classes), mean=mean, std=std)


def _imagenet(data_root: Path) -> Dataset:
    """ImageNet-1k at 224 pixels as its users unpack it; it can't be downloaded without an account."""
    root = next((folder for folder in (data_root / "imagenet", data_root) if (folder / "train").is_dir()), None)
    if root is None:
        raise DataMissing(
            f"ImageNet was looked for in {data_root / 'imagenet'} and {data_root}: neither has a folder train/",
            todo="Unpack it into train/CLASS/*.JPEG and val/CLASS/*.JPEG, and give the folder that holds both as --data-root.",
        )
    found = image_folder(root, size=224, enlarge=256 / 224)
    return replace(found, name="imagenet", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


DATASETS: dict[str, Callable[[Path], Dataset]] = {
    "fashion-mnist": fashion_mnist,
    "cifar10": lambda root: _cifar(root, 10),
    "cifar100": lambda root: _cifar(root, 100),
    "imagenet": _imagenet,
}
"""Name -> function of a folder that holds the data set, or into which it is downloaded."""


def load(name: str, data_root: Path | None = None) -> Dataset:
    """A data set by name, or any folder of images as `folder:PATH` (resized to `folder:PATH@32` pixels).

    Raises:
        UsageError: There is no such name.
        DataMissing: It is not where it was looked for.
    """
    if name.startswith("folder:"):
        path, _, size = name.removeprefix("folder:").partition("@")
        if size and not (size.isascii() and size.isdigit() and 8 <= int(size) <= 1024):
            raise UsageError(f"a side of '{size}' pixels", allowed="a whole number from 8 to 1024")
        return image_folder(Path(path), size=int(size) if size else None)
    if name not in DATASETS:
        raise UsageError(
            f"there is no data set '{name}'", allowed=", ".join(DATASETS) + ", folder:PATH for any folder of images"
        )
    return DATASETS[name]((data_root or DEFAULT_ROOT).expanduser())
