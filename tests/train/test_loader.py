"""Loaders: memory and files give the same images, ranks share them, smaller inputs are resized once from the original."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from stimcore.data.folder import image_folder
from stimcore.data.images import Dataset
from stimcore.data.normalise import Normalisation
from stimcore.data.pictures import FilePixels
from stimcore.recipes.recipe import Recipe
from stimcore.runs.run import training_records
from stimcore.train.augment import Crop, Normalise, flip_crop, imagenet_crop, resized
from stimcore.train.loader import FileLoader, InMemoryLoader, LoaderConfig, fits, make_loader
from stimcore.train.parallel import World
from tests.train.conftest import MakeTrainer

CPU = torch.device("cpu")
BATCHES = [torch.tensor([5, 1, 9, 30]), torch.tensor([2, 2, 40, 7])]


def no_sides(_step: int) -> tuple[int, ...]:
    """Return no sides: full-size images only."""
    return ()


def _config(
    augmentation: str, *, world: World | None = None, sides: Callable[[int], tuple[int, ...]] = no_sides
) -> LoaderConfig:
    return LoaderConfig(seed=3, augmentation=augmentation, device=CPU, world=world or World(), sides=sides)


@pytest.fixture
def both(folder: Path) -> tuple[Dataset, Dataset]:
    """The same folder in memory and in files."""
    small, large = image_folder(folder), image_folder(folder, resident_bytes=100)
    assert isinstance(small.train.pixels, np.ndarray)
    assert isinstance(large.train.pixels, FilePixels)
    return small, large


def two_sides(step: int) -> tuple[int, ...]:
    """Can be sent to worker processes."""
    return 5 + step % 2, 10


@pytest.mark.parametrize("augmentation", ["none", "flip_crop", "imagenet"])
@pytest.mark.parametrize("workers", [0, 1])
def test_images_from_files_are_those_from_memory(augmentation: str, workers: int, both: tuple[Dataset, Dataset]) -> None:
    small, large = both
    plan = _config(augmentation, sides=two_sides)
    here = list(InMemoryLoader(small, plan).epoch(BATCHES, 7))
    there = list(FileLoader(large, plan, workers).epoch(BATCHES, 7))
    assert len(here) == len(there) == 2
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        assert len(one.smaller) == len(other.smaller) == 2
        assert all(torch.equal(a, b) for a, b in zip(one.smaller, other.smaller, strict=True))
    assert here[0].smaller[0].shape == (4, 1, 6, 6)
    assert here[1].smaller[0].shape == (4, 1, 5, 5)
    assert torch.equal(here[0].smaller[1], here[0].images)  # the same crop at its own side


@pytest.mark.parametrize("augmentation", ["none", "flip_crop", "imagenet"])
def test_ranks_get_the_parts_of_what_one_process_would_get(augmentation: str, both: tuple[Dataset, Dataset]) -> None:
    for dataset in both:
        whole = next(make_loader(dataset, _config(augmentation, sides=two_sides), 0).epoch(BATCHES, 0))
        for rank in (0, 1):
            world = World(rank=rank, size=2)
            part = next(make_loader(dataset, _config(augmentation, world=world, sides=two_sides), 0).epoch(BATCHES, 0))
            assert torch.equal(part.images, whole.images[rank::2])
            assert torch.equal(part.labels, whole.labels[rank::2])
            assert torch.equal(part.smaller[0], whole.smaller[0][rank::2])


def test_draws_depend_on_the_step_and_on_nothing_else(both: tuple[Dataset, Dataset]) -> None:
    loader = InMemoryLoader(both[0], _config("imagenet"))
    first, again, later = (loader.batch(BATCHES[0], step) for step in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, later.images)


@pytest.mark.parametrize("dataset", [0, 1])
def test_loading_draws_nothing_from_the_global_generators(dataset: int, both: tuple[Dataset, Dataset]) -> None:
    before = torch.random.get_rng_state()
    list(make_loader(both[dataset], _config("imagenet", sides=two_sides), 0).epoch(BATCHES, 0))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_run_from_files_is_the_run_from_memory(
    both: tuple[Dataset, Dataset], recipe: Recipe, trainer_for: MakeTrainer, tmp_path: Path
) -> None:
    losses = []
    for number, dataset in enumerate(both):
        run_dir = tmp_path / f"run{number}"
        run_dir.mkdir()
        plan = dataclasses.replace(recipe, augmentation="imagenet", epochs=1)
        options = {"smallest_side": 0.6}
        list(trainer_for("stimulative", options=options, plan=plan, data=dataset, workers=1).run(run_dir))
        losses.append([row["losses"] for row in training_records(run_dir)])
    assert losses[0] == losses[1]


def test_flip_crop_shifts_by_at_most_four_and_mirrors_half() -> None:
    pixels = torch.zeros(2000, 1, 16, 16, dtype=torch.uint8)
    pixels[:, 0, 8, 5] = 255
    out = flip_crop(pixels, torch.Generator().manual_seed(0))
    places = out[:, 0].nonzero()
    assert len(places) == 2000  # never pushed out of the picture
    rows, columns = places[:, 1], places[:, 2]
    assert set(rows.tolist()) == set(range(4, 13))
    assert set(columns.tolist()) == set(range(1, 10)) | set(range(6, 15))
    mirrored = (columns >= 10).sum() / ((columns >= 10).sum() + (columns <= 5).sum())
    assert 0.45 < mirrored < 0.55
    assert set(out.flatten().tolist()) == {0, 255}


def test_imagenet_crops_stay_inside_and_cover_the_standard_range() -> None:
    pixels = torch.zeros(3, 60, 80, dtype=torch.uint8)
    crops = [imagenet_crop(pixels, "test", number) for number in range(1500)]
    areas = np.array([crop.height * crop.width / 4800 for crop in crops])
    shapes = np.array([crop.width / crop.height for crop in crops])
    for crop in crops:
        assert 0 <= crop.top <= 60 - crop.height
        assert 0 <= crop.left <= 80 - crop.width
    assert 0.06 < areas.min() < 0.12
    assert areas.max() > 0.85
    assert shapes.min() > 0.7
    assert shapes.max() < 1.42
    assert 0.45 < np.mean([crop.mirror for crop in crops]) < 0.55
    assert crops[0] == imagenet_crop(pixels, "test", 0)


def test_a_crop_taken_at_its_own_size_is_the_image_itself() -> None:
    pixels = torch.arange(48, dtype=torch.uint8).reshape(1, 6, 8)
    assert torch.equal(Crop(1, 2, 4, 4, False).apply(pixels, 4), pixels[:, 1:5, 2:6])
    assert torch.equal(Crop(1, 2, 4, 4, True).apply(pixels, 4), pixels[:, 1:5, 2:6].flip(-1))


def test_a_smaller_crop_is_resized_from_the_original_and_not_from_the_crop() -> None:
    pixels = torch.randint(0, 256, (1, 90, 90), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    crop = Crop(0, 0, 90, 90, False)
    once, twice = crop.apply(pixels, 10), resized(crop.apply(pixels, 20)[None], 10)[0]
    exact = pixels.float().reshape(1, 10, 9, 10, 9).mean((2, 4))
    assert (once.float() - exact).abs().mean() < (twice.float() - exact).abs().mean() + 2
    assert not torch.equal(once, twice)


def test_normalised_images_have_mean_zero_and_deviation_one() -> None:
    pixels = torch.tensor([[[[0, 255]]], [[[51, 102]]]], dtype=torch.uint8)
    out = Normalise(Normalisation((0.2,), (0.4,)), CPU)(pixels)
    assert out.dtype == torch.float32
    assert out.flatten().tolist() == pytest.approx([-0.5, 2.0, 0.0, 0.5], abs=1e-6)


def test_main_memory_always_holds_what_is_already_in_it() -> None:
    assert fits(CPU, 10**15)


@pytest.mark.gpu
def test_images_that_do_not_fit_stay_off_the_gpu() -> None:
    device = torch.device("cuda")
    assert fits(device, 1)
    assert not fits(device, torch.cuda.mem_get_info(device)[1])
