"""Seeded parts of a data set: fewer training images per class, a holdout, a stratified sample of any images.

Which images are drawn depends on the images alone and never on the seed of a run, so that runs that are compared use the same
images.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stimcore.data.images import Dataset, Images
from stimcore.data.pictures import FilePixels
from stimcore.errors import UsageError

SEED = 0
"""Seed of every draw in this file."""


def reduce_dataset(dataset: Dataset, per_class: int | None, *, holdout: bool = False) -> Dataset:
    """Return the data set with fewer training images, and on request with a holdout in the place of the test images.

    Args:
        dataset: The whole data set; it is not changed. Its normalisation is kept.
        per_class: Training images per class; all of them when None.
        holdout: Whether the test part becomes the same number of other training images per class. Learning rates, epochs and
            lambda are chosen on a holdout, so that the choice is not made on the test images.

    Raises:
        UsageError: A class has too few images, or a holdout is asked for although every image is used for training.
    """
    if per_class is None:
        if holdout:
            raise UsageError(
                "a holdout of training images although all of them are trained on",
                todo="Give the number of training images per class with --train-per-class N; the holdout has N others.",
            )
        return dataset
    # Each class is shuffled once and its first images are taken: the images of a smaller subset are part of every larger one,
    # and the holdout is disjoint from the training images.
    parts: list[list[NDArray[np.int64]]] = [[], []]
    needed = 2 * per_class if holdout else per_class
    for label, name in enumerate(dataset.classes):
        order = _shuffled(dataset.train, label)
        if len(order) < needed:
            what = f"{per_class} training images per class" + (" and a holdout of the same size" if holdout else "")
            raise UsageError(
                f"{what}, where class '{name}' of {dataset.name} has {len(order)}",
                allowed=f"at most {len(order) // 2 if holdout else len(order)}",
                todo="Change --train-per-class; 0 uses all images.",
            )
        parts[0].append(order[:per_class])
        parts[1].append(order[per_class : 2 * per_class])
    train, other = (select(dataset.train, np.sort(np.concatenate(part))) for part in parts)
    return replace(dataset, train=train, test=other if holdout else dataset.test)


def stratified(images: Images, count: int) -> Images:
    """Return a sample of `count` images in which every class has the same share as in all images, up to rounding.

    Args:
        images: The images to draw from.
        count: At least 1; all images are returned when there are no more than that.
    """
    if count >= len(images):
        return images
    labels, sizes = np.unique(images.labels, return_counts=True)
    shares = sizes * count / len(images)
    quotas = np.floor(shares).astype(int)
    # The quotas must add up to `count`: the images that rounding down has left over go to the classes that lost most by it
    # (method of largest remainders). A stable sort makes the choice between equal remainders the same everywhere.
    largest = np.argsort(quotas - shares, kind="stable")[: count - quotas.sum()]
    quotas[largest] += 1
    chosen = [_shuffled(images, int(label))[:quota] for label, quota in zip(labels, quotas, strict=True)]
    return select(images, np.sort(np.concatenate(chosen)))


def select(images: Images, index: NDArray[np.int64]) -> Images:
    """Return the images at `index`; images in files stay there, where `Images.take` would read them."""
    if isinstance(images.pixels, FilePixels):
        return Images(pixels=images.pixels.at(index), labels=images.labels[index])
    return images.take(index)


def _shuffled(images: Images, label: int) -> NDArray[np.int64]:
    """Return the indices of a class's images in a seeded order.

    The label is part of the seed, so that the order does not depend on how many classes or images come before it.
    """
    generator = np.random.Generator(np.random.PCG64([SEED, label]))
    return generator.permutation(np.flatnonzero(images.labels == label))
