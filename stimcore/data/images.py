"""Labelled images: the one form in which every data set reaches training, evaluation and export."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stimcore.data.enlarged import EnlargedPixels
from stimcore.data.normalise import Normalisation
from stimcore.data.preprocessing import Preprocessing
from stimcore.errors import DataMissing

CALIBRATION_IMAGES = 2048
"""Training images on which batch norms are re-calibrated (a choice)."""


CALIBRATION_BATCH = 256
"""Calibration images per batch (a choice; docs/semantics.md, "Batch-norm re-calibration")."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images with labels.

    Attributes:
        pixels: uint8 `[N, C, H, W]`, in memory; a `stimcore.data.pictures.FilePixels` where the images stay in their files, a
            `stimcore.data.enlarged.EnlargedPixels` where they are resized when they are read.
        labels: int64 `[N]`, each from 0 to the number of classes minus 1.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def stored(self) -> NDArray[np.uint8]:
        """The pixels as the data set holds them: smaller than `pixels` where these are resized when they are read."""
        return self.pixels.stored if isinstance(self.pixels, EnlargedPixels) else self.pixels

    def first(self, count: int) -> "Images":
        """Return the first `count` images."""
        return self._part(slice(count))

    def take(self, index: NDArray[np.int64]) -> "Images":
        """Return the images at `index`, in memory."""
        return self._part(index)

    def _part(self, key: slice | NDArray[np.int64]) -> "Images":
        pixels = self.pixels.at(key) if isinstance(self.pixels, EnlargedPixels) else self.pixels[key]
        return Images(pixels=pixels, labels=self.labels[key])

    @cached_property
    def sha256(self) -> str:
        """SHA-256 hash of shape, pixels and labels as the data set holds them, in hexadecimal."""
        digest = hashlib.sha256(repr(self.stored.shape).encode())
        digest.update(np.ascontiguousarray(self.stored).tobytes())
        digest.update(np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set with its two parts.

    Attributes:
        name: Name in the table of data sets, or name of the folder.
        train: Images for training and for the calibration of batch norms.
        test: Images for evaluation.
        classes: Names of the classes in the order of their labels.
        mean: Mean per channel, of pixels scaled to [0, 1].
        std: Standard deviation per channel, of pixels scaled to [0, 1].
        licence: Licence of the images; empty when unknown.
        preprocessing: How the images were made from files; None where they are what the data set holds.
        notes: What was left out, or done to images besides reading them, one sentence each.

    Raises:
        DataMissing: A part has no images, or a label has no class.
    """

    name: str
    train: Images
    test: Images
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str = ""
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()

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
        """Shape `[C, H, W]` of every image."""
        _, channels, height, width = self.train.pixels.shape
        return channels, height, width

    @property
    def normalisation(self) -> Normalisation:
        """Mean and standard deviation as one value."""
        return Normalisation(self.mean, self.std)


def calibration_subset(images: Images, count: int = CALIBRATION_IMAGES, seed: int = 0) -> Images:
    """Return the seeded sample of training images on which batch norms are re-calibrated, in memory.

    Source: docs/semantics.md, "Batch-norm re-calibration"; the number and the sample are a choice.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    index = np.sort(generator.choice(len(images), size=min(count, len(images)), replace=False))
    return images.take(index)


def calibration_batches(num_images: int, size: int = CALIBRATION_BATCH) -> list[slice]:
    """Return the batches in which calibration images go through a network.

    The last batch may be smaller. A single image that would be left over belongs to the batch before it, because one image has
    no variance where a batch norm sees one value per channel and image.

    Args:
        num_images: Number of calibration images.
        size: Images per batch.

    Example:
        >>> [batch.stop - batch.start for batch in calibration_batches(600)]
        [256, 256, 88]
        >>> [batch.stop - batch.start for batch in calibration_batches(513)]
        [256, 257]
    """
    batches = [slice(start, min(start + size, num_images)) for start in range(0, num_images, size)]
    if len(batches) > 1 and batches[-1].stop - batches[-1].start == 1:
        batches[-2:] = [slice(batches[-2].start, num_images)]
    return batches
