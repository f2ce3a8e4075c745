"""Settings of a run that don't belong to the recipe: they may change speed and what is written, but not what is compared."""

from dataclasses import dataclass

import torch

from stimcore.cli import MAX_SEED
from stimcore.data.images import Dataset
from stimcore.errors import UsageError
from stimcore.methods.base import Method
from stimcore.recipes.recipe import Recipe
from stimcore.train.parallel import World


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that a run needs besides network, method, recipe and data.

    Attributes:
        seed: Seed of everything random, from 0 to `MAX_SEED`.
        device: Device to train on.
        world: The processes that share the work.
        progress: Whether to draw a progress bar.
        compile_blocks: Whether every block is compiled with `torch.compile`.
        synchronise_norms: Whether batch norms share their statistics between processes (CUDA only).
        workers: Number of worker processes that read images which don't fit into memory; 0 reads in this process.
        tensorboard: Whether to write event files for TensorBoard into the run folder.
        holdout: Whether the test part of the data set is a holdout of training images, which the records then state.
    """

    seed: int = 0
    device: torch.device = torch.device("cpu")
    world: World = World()
    progress: bool = True
    compile_blocks: bool = False
    synchronise_norms: bool = False
    workers: int = 2
    tensorboard: bool = False
    holdout: bool = False

    @property
    def evaluated_part(self) -> str:
        """Key of the main network's accuracy in a record: `test` or `holdout`."""
        return "holdout" if self.holdout else "test"

    def check(self, method: Method, recipe: Recipe, dataset: Dataset) -> None:
        """Check that settings, method, recipe and data fit together, before anything is computed.

        Raises:
            UsageError: They don't; the message names what is allowed.
        """
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"a seed of {self.seed}", allowed=f"0 to {MAX_SEED}")
        if len(dataset.train) < recipe.batch_size:
            raise UsageError(
                f"{len(dataset.train)} training images",
                allowed=f"at least one batch of {recipe.batch_size}",
                todo=f"Make batches smaller with --batch-size, at most {len(dataset.train)}.",
            )
        if recipe.batch_size % self.world.size:
            raise UsageError(
                f"a batch of {recipe.batch_size} on {self.world.size} processes", allowed="a multiple of the processes"
            )
        if recipe.batch_size % (self.world.size * recipe.accumulate):
            raise UsageError(
                f"a batch of {recipe.batch_size} in {recipe.accumulate} parts on {self.world.size} processes",
                allowed="a multiple of parts times processes",
            )
        if recipe.augmentation == "imagenet_colour" and dataset.image_shape[0] != 3:
            raise UsageError(
                f"augmentation imagenet_colour with images of {dataset.image_shape[0]} channel",
                allowed="images of 3 channels; 'imagenet' crops without changing colours",
            )
        if self.compile_blocks and not method.compilable:
            raise UsageError(
                "--compile with this method: compiled blocks would not see its gates", todo="Train without --compile."
            )
        if self.synchronise_norms and self.device.type != "cuda":
            raise UsageError(f"synchronised batch norms on {self.device}", allowed="CUDA devices")
        if self.workers < 0:
            raise UsageError(f"{self.workers} workers", allowed="0 and more")
