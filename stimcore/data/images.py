"""Labelled images in memory: the one form in which every data set reaches training, evaluation and export."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stimcore.errors import DataMissing


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images with labels.

    Attributes:
        pixels: uint8 `[N, C, H, W]`.
        labels: int64 `[N]`, each in 0 .. number of classes - 1.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> "Images":
        """The first `count` images."""
        return Images(pixels=self.pixels[:count], labels=self.labels[:count])

    def take(self, index: NDArray[np.int64]) -> "Images":
        """The images at `index`."""
        return Images(pixels=self.pixels[index], labels=self.labels[index])

    @cached_property
    def sha256(self) -> str:
        """Hash of shape, pixels and labels."""
        digest = hashlib.sha256(repr(self.pixels.shape).encode())
        digest.update(np.ascontiguousarray(self.pixels).tobytes())
        digest.update(np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set with its two parts.

    Attributes:
        name: Name in the table, or of the folder.
        train: What is trained and calibrated on.
        test: What is evaluated on.
        classes: Names of the classes in order of their labels.
        mean: Per channel, of pixels scaled to [0, 1].
        std: Per channel, of pixels scaled to [0, 1].
        licence: Of the images; empty when unknown.
    """

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str = ""

    def __post_init__(self) -> None:
        for part, images in (("training", self.train), ("test", self.test)):
            if not len(images):
                raise DataMissing(f"{self.name} has no {part} images")
            if images.labels.min() < 0 or images.labels.max() >= len(self.classes):
                raise DataMissing(
                    f"{self.name} has {part} labels from {images.labels.min()} to {images.labels.max()}",
                    allowed=f"0 to {len(self.classes) - 1}",
                )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`[C, H, W]`."""
        _, c, h, w = self.train.pixels.shape
        return c, h, w


def channel_statistics(pixels: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of `[N, C, H, W]` pixels scaled to [0, 1], to four places."""
    values = [pixels[:, c].astype(np.float64) / 255 for c in range(pixels.shape[1])]
    return tuple(round(float(v.mean()), 4) for v in values), tuple(max(round(float(v.std()), 4), 1e-4) for v in values)


def calibration_subset(images: Images, count: int = 2048, seed: int = 0) -> Images:
    """The seeded sample of training images on which batch norms are re-calibrated.

    Source: docs/semantics.md, "Batch-norm re-calibration"; the number and the sample are a choice.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    index = np.sort(generator.choice(len(images), size=min(count, len(images)), replace=False))
    return images.take(index)
