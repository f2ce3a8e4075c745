"""Folders of pictures with a folder per class, as data sets; `stimcore.data.listing` describes the layouts.

Everything is looked at before anything is trained: a folder is read completely, or what is not read is said in
`Dataset.notes`, and files that can't be read are refused in one list.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from stimcore.data.images import Dataset, Images, calibration_subset
from stimcore.data.listing import Item, Listing, list_folder
from stimcore.data.normalise import Normalisation, channel_statistics
from stimcore.data.pictures import FilePixels
from stimcore.data.preprocessing import Preprocessing, Resize
from stimcore.data.survey import Survey, read_all, refuse_broken, survey
from stimcore.errors import DataMissing, UsageError
from stimcore.files import expanded

SIDES = range(8, 1025)
"""Sides of images, in pixels, that networks are trained on."""
RESIDENT_BYTES = 4 * 2**30
"""Images that would take more memory than this (4 GiB) stay in their files; worker processes read them during training."""
IMAGENET_SIDE, IMAGENET_SHORTER = 224, 256
"""ImageNet's evaluation: the shorter side becomes 256 pixels (bilinear), and the centre of 224 is cut out."""
_IMAGENET_CLASS = re.compile(r"n[0-9]{8}\Z")
"""ImageNet's names of classes, which are WordNet's."""


@dataclass(frozen=True, kw_only=True)
class FolderPlan:
    """What would be read of a folder, and how.

    Attributes:
        listing: The files.
        survey: What they are.
        train: Training pictures with their labels.
        test: Test pictures with their labels.
        preprocessing: How pictures are read; the normalisation is not measured yet.
    """

    listing: Listing
    survey: Survey
    train: Sequence[Item]
    test: Sequence[Item]
    preprocessing: Preprocessing

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done besides reading every file as it is, one sentence each."""
        return (*self.listing.all_notes, *self.survey.notes)


def folder_and_size(text: str) -> tuple[Path, int | None]:
    """Return folder and side in pixels of `PATH` or `PATH@SIZE`.

    Raises:
        UsageError: The size is out of range.

    Example:
        >>> folder_and_size("photos@224")[1], folder_and_size("photos")[1]
        (224, None)
    """
    path, at, size = text.rpartition("@")
    if not at or expanded(Path(text)).is_dir():  # a folder may have an @ in its name
        return Path(text), None
    return Path(path), side_of(size)


def side_of(text: str) -> int:
    """Return the side in pixels that follows an `@` in the name of a data set.

    Raises:
        UsageError: It is no whole number, or out of range.

    Example:
        >>> side_of("224")
        224
    """
    if not (text.isascii() and text.isdigit() and int(text) in SIDES):
        raise UsageError(f"a side of '{text}' pixels", allowed=f"a whole number from {SIDES[0]} to {SIDES[-1]}")
    return int(text)


def plan_folder(
    root: Path, *, size: int | None = None, seed: int = 0, test_frac: float = 0.2, enlarge: float | None = None
) -> FolderPlan:
    """Return what `image_folder` would read, from the names and the headers of all files.

    Args:
        root: As in `image_folder`.
        size: As there.
        seed: As there.
        test_frac: As there.
        enlarge: As there.

    Raises:
        DataMissing: The folder has no images, or other classes in its two parts, or too few images in a class.
    """
    listing = list_folder(root)
    train, test = _split(listing, seed, test_frac) if listing.test is None else (listing.train, listing.test)
    headers = survey([path for path, _ in (*train, *test)])
    side = size or next((min(headers.headers[path].size) for path, _ in train if path in headers.headers), 1)
    if enlarge is None:
        imagenet = side == IMAGENET_SIDE and all(_IMAGENET_CLASS.match(name) for name in listing.classes)
        enlarge = IMAGENET_SHORTER / IMAGENET_SIDE if imagenet else 1.0
    mode: Literal["L", "RGB"] = "L" if headers.grey else "RGB"
    channels = len(mode)
    steps = Preprocessing(
        mode=mode,
        resize=Resize(shorter=round(side * enlarge), filter="bicubic" if enlarge == 1 else "bilinear"),
        crop=(side, side),
        normalisation=Normalisation((0.0,) * channels, (1.0,) * channels),
    )
    return FolderPlan(listing=listing, survey=headers, train=train, test=test, preprocessing=steps)


def image_folder(
    root: Path,
    *,
    size: int | None = None,
    seed: int = 0,
    test_frac: float = 0.2,
    enlarge: float | None = None,
    resident_bytes: int = RESIDENT_BYTES,
) -> Dataset:
    """Return a folder of images as a data set, in memory if it is small enough.

    Args:
        root: A folder that holds `train/` and `test/` (or `val/`, `valid/`, ..., in any case), each with one folder per class;
            or a folder that holds the class folders, of which a seeded share then becomes the test part.
        size: Side in pixels to which images are resized (shorter side, then centre crop); that of the first image when None.
        seed: Seed of the split, where there are no test images.
        test_frac: Share of every class that becomes the test part, in (0, 1), where there are no test images.
        enlarge: The shorter side becomes `size * enlarge` before the centre is cropped; 1 keeps as much as possible. Other
            values resize as ImageNet's evaluation does (bilinear). None stands for 1, or for 256 / 224 where the classes have
            ImageNet's names and the size is 224.
        resident_bytes: Training or test images that take more memory than this stay in their files.

    Raises:
        DataMissing: There are no images, the classes of the two parts differ, a class has too few, files can't be read, or no
            size is given and that of the first image is out of range.

    Example:
        >>> image_folder(Path("nowhere"))
        Traceback (most recent call last):
            ...
        stimcore.errors.DataMissing: there is no folder nowhere. Give a folder that has one folder of images per class.
    """
    plan = plan_folder(root, size=size, seed=seed, test_frac=test_frac, enlarge=enlarge)
    side = plan.preprocessing.crop[0]
    if size is None and plan.survey.headers and side not in SIDES:
        raise DataMissing(
            f"the first picture in {plan.listing.root} has a side of {side} pixels, and all would get this size",
            allowed=f"{SIDES[0]} to {SIDES[-1]}",
            todo=f"Give another size behind the folder: {root}@224.",
        )
    total, broken, images = len(plan.train) + len(plan.test), dict(plan.survey.broken), []
    for items in (plan.train, plan.test):
        part, unreadable = _read(items, plan.preprocessing, resident_bytes)
        broken = unreadable | broken
        images.append(part)
    refuse_broken(broken, total, plan.listing.root)
    # reading every file of a large folder for two numbers per channel would take minutes
    sample = images[0] if isinstance(images[0].pixels, np.ndarray) else calibration_subset(images[0])
    normalisation = channel_statistics(sample.pixels)
    return Dataset(
        name=root.name,
        train=images[0],
        test=images[1],
        classes=plan.listing.classes,
        mean=normalisation.mean,
        std=normalisation.std,
        preprocessing=replace(plan.preprocessing, normalisation=normalisation),
        notes=plan.notes,
    )


def _split(listing: Listing, seed: int, test_frac: float) -> tuple[list[Item], list[Item]]:
    """Return training and test items, with the same share of every class in the test part.

    Raises:
        DataMissing: A class has a single picture.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    train: list[Item] = []
    test: list[Item] = []
    for label, name in enumerate(listing.classes):
        of_class = [item for item in listing.train if item[1] == label]
        if len(of_class) < 2:
            raise DataMissing(
                f"class {name} in {listing.root} has {len(of_class)} picture, which can't be both trained on and tested with",
                allowed="at least 2 pictures in every class",
            )
        order = generator.permutation(len(of_class))
        num_test = min(len(of_class) - 1, max(1, round(len(of_class) * test_frac)))
        test += [of_class[i] for i in order[:num_test]]
        train += [of_class[i] for i in order[num_test:]]
    return train, test


def _read(items: Sequence[Item], steps: Preprocessing, resident_bytes: int) -> tuple[Images, dict[Path, str]]:
    """Return a part in memory, or in its files when it would take more than `resident_bytes`, and its broken files."""
    paths, labels = [path for path, _ in items], np.array([label for _, label in items], np.int64)
    in_files = FilePixels(paths, steps)
    if in_files.nbytes > resident_bytes:
        # decoded once although nothing is kept: a damaged file would end the training in some later epoch
        broken = dict(survey(paths, check=steps).broken)
        return Images(pixels=cast(NDArray[np.uint8], in_files), labels=labels), broken  # it is indexed like an array
    pixels, broken = read_all(in_files)
    return Images(pixels=pixels, labels=labels), broken
