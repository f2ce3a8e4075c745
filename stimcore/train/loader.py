"""Loaders of training images: from memory, or from files that worker processes read.

Both give the same images for the same seed if the files have the size that is trained on, because every draw depends only on
the seed, the step and the place in the batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from stimcore.data.enlarged import EnlargedPixels
from stimcore.data.images import Dataset
from stimcore.data.pictures import FilePixels
from stimcore.methods.base import Method, StepContext
from stimcore.nets.transfer import send
from stimcore.train.augment import Normalise, flip_crop, random_views, resized
from stimcore.train.parallel import World
from stimcore.train.seeds import generator, spec_rng

COLOURED = "imagenet_colour"
CROPPED = ("imagenet", COLOURED)
"""Augmentations that crop every image by itself; the second one changes its colours, too."""
Key = tuple[int, int, int]
"""An image to read: global step, place in the batch, index in the data set."""


@dataclass(frozen=True)
class SmallerSides:
    """The sides of the smaller images of a step, drawn by the method; it can be sent to worker processes.

    Attributes:
        method: The training method.
        seed: Seed of the run.
        crop: Side of the full-size images in pixels.
    """

    method: Method
    seed: int
    crop: int

    def __call__(self, step: int) -> tuple[int, ...]:
        """Return the sides for a global step; every rank and every worker process gets the same."""
        return self.method.draw_sides(self.crop, spec_rng(self.seed, "side", step))


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """What a loader needs to know besides the images.

    Attributes:
        seed: Seed of the run.
        augmentation: `none`, `flip_crop`, or one of `CROPPED`.
        device: Device that the images are sent to.
        world: The processes that share a batch.
        sides: Global step -> sides of the smaller images of that step.
    """

    seed: int
    augmentation: str
    device: torch.device
    world: World
    sides: Callable[[int], tuple[int, ...]]


class Loader(ABC):
    """Base of both loaders.

    Args:
        dataset: The data set with the training images.
        config: Seed, augmentation, device and processes.
    """

    def __init__(self, dataset: Dataset, config: LoaderConfig) -> None:
        self.config = config
        self.side = dataset.image_shape[1]
        self.enlarges = isinstance(dataset.train.pixels, EnlargedPixels)
        self._normalise = Normalise(dataset.normalisation, config.device)

    @abstractmethod
    def epoch(self, batches: Sequence[Tensor], first_step: int) -> Iterator[StepContext]:
        """Yield this rank's part of every batch of an epoch, in order.

        Args:
            batches: For every step the indices of the images of all ranks together.
            first_step: Global number of the first step.
        """

    def _context(self, step: int, pixels: Tensor, smaller: Sequence[Tensor], labels: Tensor) -> StepContext:
        """Return the context of a step from augmented uint8 images `[B, C, H, W]`."""
        return StepContext(
            images=self._normalise(pixels),
            labels=labels,
            rng=spec_rng(self.config.seed, "spec", step),
            smaller=tuple(self._normalise(images) for images in smaller),
        )

    def _augmented_share(self, pixels: Tensor, step: int) -> tuple[Tensor, list[Tensor]]:
        """Return this rank's share of a whole batch `[B, C, H, W]`, shifted and mirrored, and its smaller copies.

        Images that are enlarged are shifted first, in their own pixels, so that a shift covers the same part of the picture.

        The draw is made for the whole batch before it is shared, so that an image gets the same shift for any number of ranks.
        """
        if self.config.augmentation == "flip_crop":
            pixels = flip_crop(pixels, generator(self.config.seed, "augment", step))
        share = pixels[self.config.world.share(torch.arange(len(pixels), device=pixels.device))]
        smaller = [resized(share, side) for side in self.config.sides(step)]
        return resized(share, self.side) if self.enlarges else share, smaller


class InMemoryLoader(Loader):
    """Loads from images in memory, which are kept on the device if they fit there.

    Args:
        dataset: A data set in memory.
        config: Seed, augmentation, device and processes.
    """

    def __init__(self, dataset: Dataset, config: LoaderConfig) -> None:
        super().__init__(dataset, config)
        self.pixels, self.labels = torch.from_numpy(dataset.train.stored), torch.from_numpy(dataset.train.labels)
        if fits(config.device, self.pixels.nbytes):
            self.pixels = self.pixels.to(config.device)
        elif config.device.type == "cuda":
            self.pixels = self.pixels.pin_memory()
        self.labels = self.labels.to(config.device)

    def epoch(self, batches: Sequence[Tensor], first_step: int) -> Iterator[StepContext]:
        """Yield this rank's part of every batch; see `Loader.epoch`."""
        for step, index in enumerate(batches, first_step):
            yield self.batch(index, step)

    def batch(self, index: Tensor, step: int) -> StepContext:
        """Return this rank's part of one batch; `index` has the images of all ranks, on the CPU."""
        on_device = send(index, self.config.device)
        if self.pixels.device == self.labels.device:
            pixels = self.pixels[on_device]
        else:  # the images don't fit on the device
            pixels = send(self.pixels[index], self.config.device)
        places = self.config.world.share(torch.arange(len(index)))
        share = self.config.world.share(self.labels[on_device])
        if self.config.augmentation not in CROPPED:
            return self._context(step, *self._augmented_share(pixels, step), share)
        sides, colours = (self.side, *self.config.sides(step)), self.config.augmentation == COLOURED
        views = [
            random_views(pixels[place], sides, colours=colours, place=(self.config.seed, "augment", step, place))
            for place in places.tolist()
        ]
        full, *smaller = map(torch.stack, zip(*views, strict=True))
        return self._context(step, full, smaller, share)


class FileLoader(Loader):
    """Loads from image files; worker processes read, crop and resize them while the device computes.

    Args:
        dataset: A data set whose training pixels are a `FilePixels`.
        config: Seed, augmentation, device and processes.
        workers: Number of worker processes; 0 reads in this process.
    """

    def __init__(self, dataset: Dataset, config: LoaderConfig, workers: int) -> None:
        super().__init__(dataset, config)
        assert isinstance(dataset.train.pixels, FilePixels)
        self.dataset: Dataset = dataset
        self.workers: int = workers

    def epoch(self, batches: Sequence[Tensor], first_step: int) -> Iterator[StepContext]:
        """Yield this rank's part of every batch; see `Loader.epoch`."""
        # shifts are drawn for the whole batch, so every rank reads all of it; crops are drawn per image, so it reads its share
        whole = self.config.augmentation not in CROPPED
        keys: list[list[Key]] = []
        for step, index in enumerate(batches, first_step):
            places = torch.arange(len(index)) if whole else self.config.world.share(torch.arange(len(index)))
            keys.append([(step, place, int(index[place])) for place in places.tolist()])
        loader: DataLoader[list[Tensor]] = DataLoader(
            _ImageReader(self.dataset, self.config, self.side),
            batch_sampler=keys,
            num_workers=self.workers,
            pin_memory=self.config.device.type == "cuda",
            # without it the loader draws a number from torch's global generator, which dropout in a head draws from too
            generator=generator(self.config.seed, "loader"),
        )
        for step, (labels, pixels, *smaller) in enumerate(loader, first_step):
            pixels, labels, *smaller = (value.to(self.config.device, non_blocking=True) for value in (pixels, labels, *smaller))
            if whole:
                labels = labels[self.config.world.share(torch.arange(len(labels), device=labels.device))]
                pixels, smaller = self._augmented_share(pixels, step)
            yield self._context(step, pixels, smaller, labels)


class _ImageReader(TorchDataset[list[Tensor]]):
    """Reads one image in a worker process: its label, the crop, and the smaller crops."""

    def __init__(self, dataset: Dataset, config: LoaderConfig, side: int) -> None:
        self.pixels, self.labels = dataset.train.pixels, dataset.train.labels
        self.seed, self.augmentation, self.side, self.sides = config.seed, config.augmentation, side, config.sides

    def __getitem__(self, key: Key) -> list[Tensor]:
        step, place, index = key
        label = torch.tensor(int(self.labels[index]))
        if self.augmentation not in CROPPED:
            return [label, torch.from_numpy(self.pixels[index])]
        image = torch.from_numpy(np.ascontiguousarray(self.pixels.original(index)))  # type: ignore[attr-defined]  # FilePixels
        sides, colours = (self.side, *self.sides(step)), self.augmentation == COLOURED
        return [label, *random_views(image, sides, colours=colours, place=(self.seed, "augment", step, place))]


def fits(device: torch.device, num_bytes: int) -> bool:
    """Return whether images may be kept on the device: always on the CPU, on a GPU if half of its free memory is enough."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return num_bytes <= free // 2


def make_loader(dataset: Dataset, config: LoaderConfig, workers: int) -> Loader:
    """Return the loader for a data set in memory or in files."""
    if isinstance(dataset.train.pixels, FilePixels):
        return FileLoader(dataset, config, workers)
    return InMemoryLoader(dataset, config)
