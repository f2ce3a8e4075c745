"""Seeded parts of a data set: fewer training images per class, a holdout beside them, a stratified sample of any images.

The draw depends on the images alone, never on the seed of a run: runs that are compared see the same images.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stimcore.data.images import Dataset, Images
from stimcore.data.pictures import FilePixels
from stimcore.errors import UsageError

SEED = 0
"""Of every draw in this file."""


def cut(dataset: Dataset, per_class: int | None, *, holdout: bool = False) -> Dataset:
    """Return the data set with fewer training images, and on request with a holdout in the place of the test images.

    A smaller cut is a part of a larger one, as each class is shuffled once and its first images are taken.

    Args:
        dataset: Whole; left untouched. Its normalisation is kept.
        per_class: Training images per class; all of them when None.
        holdout: Whether the test part becomes as many other images per class, out of those that are not trained on. Rates,
            epochs and lambda are chosen on these, so that the test images stay unseen.

    Raises:
        UsageError: A class has too few images, or a holdout is asked for where every image is trained on.
    """
    if per_class is None:
        if holdout:
            raise UsageError(
                "a holdout of training images where all of them are trained on",
                todo="Say with --train-per-class N how many are trained on; as many others are then the holdout.",
            )
        return dataset
    parts: list[list[NDArray[np.int64]]] = [[], []]
    needed = 2 * per_class if holdout else per_class
    for label, name in enumerate(dataset.classes):
        order = _shuffled(dataset.train, label)
        if len(order) < needed:
            what = f"{per_class} training images per class" + (" and a holdout of as many" if holdout else "")
            raise UsageError(
                f"{what}, where class '{name}' of {dataset.name} has {len(order)}",
                allowed=f"at most {len(order) // 2 if holdout else len(order)}",
                todo="--train-per-class says how many; 0 takes all images.",
            )
        parts[0].append(order[:per_class])
        parts[1].append(order[per_class : 2 * per_class])
    train, other = (taken(dataset.train, np.sort(np.concatenate(part))) for part in parts)
    return replace(dataset, train=train, test=other if holdout else dataset.test)


def stratified(images: Images, count: int) -> Images:
    """Return a sample of `count` images in which every class has the share that it has in all of them.

    Args:
        images: What is drawn from.
        count: At least 1; all images where there are no more.
    """
    if count >= len(images):
        return images
    labels, sizes = np.unique(images.labels, return_counts=True)
    shares = sizes * count / len(images)
    quotas = np.floor(shares).astype(int)
    largest = np.argsort(quotas - shares, kind="stable")[: count - quotas.sum()]  # the classes that lost most by rounding down
    quotas[largest] += 1
    chosen = [_shuffled(images, int(label))[:quota] for label, quota in zip(labels, quotas, strict=True)]
    return taken(images, np.sort(np.concatenate(chosen)))


def taken(images: Images, index: NDArray[np.int64]) -> Images:
    """Return the images at `index`; those that lie in files stay there."""
    if isinstance(images.pixels, FilePixels):
        return Images(pixels=images.pixels.at(index), labels=images.labels[index])  # type: ignore[arg-type]  # looks like an array
    return images.take(index)


def _shuffled(images: Images, label: int) -> NDArray[np.int64]:
    """Places of a class's images in a seeded order that does not depend on the other classes."""
    generator = np.random.Generator(np.random.PCG64([SEED, label]))
    return generator.permutation(np.flatnonzero(images.labels == label))
