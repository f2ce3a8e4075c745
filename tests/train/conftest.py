"""A data set and a recipe small enough to train in a second, and the hash of what training led to."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from PIL import Image

from stimcore.bench.curves import striped_images
from stimcore.data.images import Dataset, Images
from stimcore.methods.table import make
from stimcore.nets.catalogue import build
from stimcore.recipes.recipe import REDUCED, Recipe
from stimcore.runs import checkpoint
from stimcore.train.seeds import layers_seeded
from stimcore.train.settings import Settings
from stimcore.train.trainer import Trainer

pictures = striped_images


def write_folder(root: Path, images: Images, part: str) -> None:
    """The same pictures as PNG files, a folder per class."""
    for number, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
        folder = root / part / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        picture = pixels[0] if pixels.shape[0] == 1 else pixels.transpose(1, 2, 0)
        Image.fromarray(picture).save(folder / f"{number:04}.png")


@pytest.fixture
def tiny() -> Dataset:
    """48 training and 12 test images of 10 x 10 grey pixels in 3 classes."""
    names = ("left", "middle", "right")
    return Dataset(name="tiny", train=pictures(48), test=pictures(12, seed=1), classes=names, mean=(0.3,), std=(0.25,))


@pytest.fixture
def recipe() -> Recipe:
    """Three epochs of three steps."""
    return Recipe(
        name="tiny",
        label=REDUCED,
        experiment="tiny",
        network="resnet20",
        dataset="tiny",
        epochs=3,
        batch_size=16,
        learning_rate=0.02,
    )


class MakeTrainer(Protocol):
    """Makes a trainer with fresh seeded weights; what is not given is the small recipe and data set of these tests."""

    def __call__(
        self,
        method: str = "common",
        *,
        options: Mapping[str, Any] | None = None,
        plan: Recipe | None = None,
        data: Dataset | None = None,
        **settings: Any,
    ) -> Trainer: ...


@pytest.fixture
def trainer_for(tiny: Dataset, recipe: Recipe) -> MakeTrainer:
    def make_trainer(
        method: str = "common",
        *,
        options: Mapping[str, Any] | None = None,
        plan: Recipe | None = None,
        data: Dataset | None = None,
        **settings: Any,
    ) -> Trainer:
        plan, data = plan or recipe, data or tiny
        with layers_seeded(0, "weights"):
            net = build(plan.network, input_shape=data.image_shape, num_classes=len(data.classes))
        return Trainer(net, make(method, options or {}), plan, data, Settings(progress=False, **settings))

    return make_trainer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of images as a user would have one."""
    root = tmp_path / "pictures"
    write_folder(root, pictures(48), "train")
    write_folder(root, pictures(12, seed=1), "test")
    return root


def newest(folder: Path) -> tuple[Path, checkpoint.Checkpoint, list[str]]:
    """Return the newest checkpoint of a folder that has one; see `checkpoint.newest`."""
    result = checkpoint.newest(folder)
    assert result is not None
    return result


def digest(state: checkpoint.Checkpoint) -> str:
    """Hash of everything in a checkpoint."""
    checksum = hashlib.sha256(str(state.epoch).encode())
    slots = {f"{name}{key}": value for key, slot in state.optimizer["state"].items() for name, value in slot.items()}
    for part in (state.network, state.auxiliary, slots):
        for key, value in sorted(part.items()):
            checksum.update(key.encode())
            checksum.update(b"none" if value is None else value.contiguous().numpy().tobytes())
    return checksum.hexdigest()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The same sums in the same order on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
