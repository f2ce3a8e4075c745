"""Fashion-MNIST through torchvision (MIT licence, Zalando Research)."""

import gzip
import importlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from stimcore.cli import install_line
from stimcore.data.images import Dataset, Images
from stimcore.data.normalise import FASHION_MNIST
from stimcore.errors import DataMissing, Unavailable
from stimcore.files import replacing

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` installs the files."""
FILES = tuple(f"{part}-{what}" for part in ("train", "t10k") for what in ("images-idx3-ubyte", "labels-idx1-ubyte"))
CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def torchvision_datasets() -> Any:
    """Return torchvision's module of data sets.

    It is imported by name and when it is needed: folders of pictures are read where torch is not installed.

    Raises:
        Unavailable: torchvision is not installed.
    """
    try:
        return importlib.import_module("torchvision.datasets")
    except ImportError as reason:
        raise Unavailable(
            "this data set is read by torchvision, which is not installed",
            todo=f"{install_line('torch')} A folder of pictures (folder:PATH) needs no torchvision.",
        ) from reason


def fashion_mnist(data_root: Path, *, download: bool = True) -> Dataset:
    """Return Fashion-MNIST: 60,000 training and 10,000 test images of 28 x 28 grey pixels in 10 classes.

    Args:
        data_root: Folder in which torchvision expects `FashionMNIST/raw`. The four files may also lie directly in it, or in the
            folder of Debian's package.
        download: Whether to download the files when they are in none of these folders.

    Raises:
        DataMissing: The files are in none of the folders and can't be downloaded.
    """
    raw = data_root / "FashionMNIST" / "raw"
    candidates = [raw, data_root, DEBIAN]
    if not all((raw / name).exists() for name in FILES):
        for folder in candidates[1:]:
            if all(_present(folder, name) for name in FILES):
                raw.mkdir(parents=True, exist_ok=True)
                for name in FILES:
                    _unpack(folder, name, raw / name)
                break
    try:
        kind = torchvision_datasets().FashionMNIST
        train, test = (kind(str(data_root), train=part, download=download) for part in (True, False))
    except Unavailable:
        raise
    except Exception as reason:
        raise DataMissing(
            f"Fashion-MNIST was looked for in {', '.join(map(str, candidates))} and could not be downloaded "
            f"({type(reason).__name__})",
            todo="Install Debian's package dataset-fashion-mnist, or put its four idx files into a folder "
            "and give it as --data-root.",
        ) from reason
    images = [
        Images(pixels=np.ascontiguousarray(part.data.numpy()[:, None]), labels=part.targets.numpy().astype(np.int64))
        for part in (train, test)
    ]
    return Dataset(
        name="fashion-mnist",
        train=images[0],
        test=images[1],
        classes=CLASSES,
        mean=FASHION_MNIST.mean,
        std=FASHION_MNIST.std,
        licence="MIT, Copyright (c) 2017 Zalando SE",
    )


def _present(folder: Path, name: str) -> bool:
    """Return whether a folder holds an idx file, compressed or not."""
    return (folder / name).exists() or (folder / f"{name}.gz").exists()


def _unpack(folder: Path, name: str, target: Path) -> None:
    """Copy one idx file to the place where torchvision expects it."""
    # two processes may do so at once, and a reader must never see half a file
    source = folder / name
    with replacing(target) as temporary, temporary.open("wb") as out:
        if source.exists():
            out.write(source.read_bytes())
        else:
            with gzip.open(folder / f"{name}.gz") as packed:
                shutil.copyfileobj(packed, out)
