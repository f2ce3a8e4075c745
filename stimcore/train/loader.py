"""Where a step's images come from: resident on the device, or read from files by worker processes.

Both give the same images for the same seed where the files have the size that is trained on: every draw depends on seed, step
and place in the batch alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from stimcore.data.images import Dataset
from stimcore.data.pictures import FilePixels
from stimcore.train.augment import Normalise, flip_crop, imagenet_crop, resized
from stimcore.train.parallel import World
from stimcore.train.seeds import generator

Sides = Callable[[int], tuple[int, ...]]
"""Global step -> sides of the smaller images that it wants."""


@dataclass(frozen=True)
class Loaded:
    """One rank's part of one batch.

    Attributes:
        images: `[B, C, H, W]`, augmented and normalised.
        labels: `[B]`, int64.
        smaller: The same crops at other sides.
    """

    images: Tensor
    labels: Tensor
    smaller: tuple[Tensor, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What both kinds of feed have to know.

    Attributes:
        seed: Of the run.
        augmentation: `none`, `flip_crop` or `imagenet`.
        device: Where images are wanted.
        world: Whose share of a batch is wanted.
        sides: Which smaller images a step wants.
    """

    seed: int
    augmentation: str
    device: torch.device
    world: World
    sides: Sides


class Feed(ABC):
    """Gives the batches of an epoch.

    Args:
        dataset: Whose training images are given.
        plan: How.
    """

    def __init__(self, dataset: Dataset, plan: Plan) -> None:
        self.plan = plan
        self.side = dataset.image_shape[1]
        self.normalise = Normalise(dataset.normalisation, plan.device)

    @abstractmethod
    def epoch(self, batches: Sequence[Tensor], first_step: int) -> Iterator[Loaded]:
        """The batches of an epoch in order.

        Args:
            batches: Per step the indices of all ranks' images together.
            first_step: Global number of the first step.
        """

    def finished(self, pixels: Tensor, smaller: Sequence[Tensor], labels: Tensor) -> Loaded:
        """Normalises what was cropped."""
        return Loaded(self.normalise(pixels), labels, tuple(self.normalise(small) for small in smaller))

    def shifted(self, pixels: Tensor, step: int) -> tuple[Tensor, list[Tensor]]:
        """Whole batches `[B, C, H, W]` of all ranks, shifted and mirrored where the plan says so; this rank's share of them."""
        if self.plan.augmentation == "flip_crop":
            pixels = flip_crop(pixels, generator(self.plan.seed, "augment", step))
        mine = pixels[self.plan.world.share(torch.arange(len(pixels), device=pixels.device))]
        return mine, [resized(mine, side) for side in self.plan.sides(step)]


class Resident(Feed):
    """All images in memory, on the device when they fit there beside the network.

    Args:
        dataset: In memory.
        plan: How.
    """

    def __init__(self, dataset: Dataset, plan: Plan) -> None:
        super().__init__(dataset, plan)
        self.pixels, self.labels = torch.from_numpy(dataset.train.pixels), torch.from_numpy(dataset.train.labels)
        if fits(plan.device, self.pixels.nbytes):
            self.pixels = self.pixels.to(plan.device)
        elif plan.device.type == "cuda":
            self.pixels = self.pixels.pin_memory()
        self.labels = self.labels.to(plan.device)

    def epoch(self, batches: Sequence[Tensor], first_step: int) -> Iterator[Loaded]:
        """As in `Feed`."""
        for step, index in enumerate(batches, first_step):
            yield self.batch(index, step)

    def batch(self, index: Tensor, step: int) -> Loaded:
        """One batch; `index` are all ranks' images."""
        pixels = self.pixels[index.to(self.pixels.device)].to(self.plan.device, non_blocking=True)
        labels = self.labels[index.to(self.labels.device)]
        places = self.plan.world.share(torch.arange(len(index)))
        mine = labels[places.to(labels.device)]
        if self.plan.augmentation != "imagenet":
            return self.finished(*self.shifted(pixels, step), mine)
        crops = [
            (pixels[place], imagenet_crop(pixels[place], self.plan.seed, "augment", step, place)) for place in places.tolist()
        ]
        taken = [
            torch.stack([crop.taken(image, side) for image, crop in crops]) for side in (self.side, *self.plan.sides(step))
        ]
        return self.finished(taken[0], taken[1:], mine)


class Streamed(Feed):
    """Images are read, cropped and resized from their original size by worker processes while the device computes.

    Args:
        dataset: Whose training pixels are a `FilePixels`.
        plan: How.
        workers: Processes; 0 reads in this one.
    """

    def __init__(self, dataset: Dataset, plan: Plan, workers: int) -> None:
        super().__init__(dataset, plan)
        assert isinstance(dataset.train.pixels, FilePixels)
        self.dataset: Dataset = dataset
        self.workers: int = workers

    def epoch(self, batches: Sequence[Tensor], first_step: int) -> Iterator[Loaded]:
        """As in `Feed`."""
        whole = self.plan.augmentation != "imagenet"  # shifts are drawn for the whole batch, so every rank reads all of it
        jobs: list[list[tuple[int, int, int]]] = []
        for step, index in enumerate(batches, first_step):
            places = torch.arange(len(index)) if whole else self.plan.world.share(torch.arange(len(index)))
            jobs.append([(step, place, int(index[place])) for place in places.tolist()])
        loader: DataLoader[list[Tensor]] = DataLoader(
            _Reader(self.dataset, self.plan.seed, self.plan.augmentation, self.side, self.plan.sides),
            batch_sampler=jobs,
            num_workers=self.workers,
            pin_memory=self.plan.device.type == "cuda",
            generator=generator(self.plan.seed, "loader"),  # or it would draw from torch's own, which heads' dropout uses
        )
        for step, (labels, pixels, *smaller) in enumerate(loader, first_step):
            pixels, labels, *smaller = (value.to(self.plan.device, non_blocking=True) for value in (pixels, labels, *smaller))
            if whole:
                labels = labels[self.plan.world.share(torch.arange(len(labels), device=labels.device))]
                pixels, smaller = self.shifted(pixels, step)
            yield self.finished(pixels, smaller, labels)


class _Reader(TorchDataset[list[Tensor]]):
    """Reads one image: label, crop, smaller crops. Its key is (step, place in the batch, index)."""

    def __init__(self, dataset: Dataset, seed: int, augmentation: str, side: int, sides: Sides) -> None:
        self.pixels, self.labels = dataset.train.pixels, dataset.train.labels
        self.seed, self.augmentation, self.side, self.sides = seed, augmentation, side, sides

    def __getitem__(self, key: tuple[int, int, int]) -> list[Tensor]:
        step, place, index = key
        label = torch.tensor(int(self.labels[index]))
        if self.augmentation != "imagenet":
            return [label, torch.from_numpy(self.pixels[index])]
        image = torch.from_numpy(np.ascontiguousarray(self.pixels.original(index)))  # type: ignore[attr-defined]  # FilePixels
        crop = imagenet_crop(image, self.seed, "augment", step, place)
        return [label, *(crop.taken(image, side) for side in (self.side, *self.sides(step)))]


def fits(device: torch.device, num_bytes: int) -> bool:
    """Whether images may lie on the device: always in main memory, on a GPU when they take at most half of what is free."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return num_bytes <= free // 2


def feed_for(dataset: Dataset, plan: Plan, workers: int) -> Feed:
    """The feed that suits the data set."""
    return Streamed(dataset, plan, workers) if isinstance(dataset.train.pixels, FilePixels) else Resident(dataset, plan)
