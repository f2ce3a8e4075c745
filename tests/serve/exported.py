"""A small real bundle by the real exporter: random images, networks of random weights, everything else as for users."""

import os
from pathlib import Path

import numpy as np
import torch

from stimcore import files
from stimcore.bundle import open_bundle
from stimcore.data.images import Dataset, Images
from stimcore.data.normalise import channel_statistics
from stimcore.export.experiment import shared_experiment
from stimcore.export.exporter import Exporter
from stimcore.nets.catalogue import build
from stimcore.nets.norms import batch_norms
from stimcore.nets.staged import StagedNet
from stimcore.runs import checkpoint
from stimcore.runs.checkpoint import Checkpoint
from stimcore.runs.run import Run
from stimcore.runs.trained_run import TrainedRun
from stimcore.subnets.families import ordered
from stimcore.sweep.sweep import Settings, measured_sweep, store_sweep
from stimcore.train.seeds import layers_seeded
from tests.bundles import GRAPHS

CLASSES = ("ash", "birch", "cedar", "dogwood", "elm")
SIDE = 12


def images(count: int, seed: int) -> Images:
    """Return random images and labels."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (count, 1, SIDE, SIDE), dtype=np.uint8)
    return Images(pixels=pixels, labels=generator.integers(0, len(CLASSES), count))


def _enliven(net: StagedNet, seed: int) -> None:
    """Give batch norms scales, shifts and statistics, as training does."""
    generator = torch.Generator().manual_seed(seed)
    for norm in batch_norms(net):
        for tensor, low, high in (
            (norm.weight, 0.5, 1.5),
            (norm.bias, -0.3, 0.3),
            (norm.running_mean, -0.5, 0.5),
            (norm.running_var, 0.5, 2.0),
        ):
            assert tensor is not None
            tensor.data.uniform_(low, high, generator=generator)


def export(folder: Path, methods: tuple[str, ...] = ("common", "stimulative"), num_images: int = 300) -> Path:
    """Write `folder/tiny/METHOD`: resnet20 with a few listed sub-networks, and a stored sweep for the last method."""
    torch.set_num_threads(1)
    train, test = images(320, 1), images(num_images, 2)
    normalisation = channel_statistics(train.pixels)
    dataset = Dataset(
        name="random", train=train, test=test, classes=CLASSES, mean=normalisation.mean, std=normalisation.std, licence="none"
    )
    for seed, method in enumerate(methods):
        with layers_seeded(seed, "weights"):
            net = build("resnet20", input_shape=dataset.image_shape, num_classes=len(CLASSES))
        _enliven(net, seed)
        experiment = shared_experiment(folder / "tiny", dataset, net.topology, normalisation, twin=False)
        run = Run(
            network="resnet20",
            input_shape=dataset.image_shape,
            num_classes=len(CLASSES),
            method=method,
            seed=seed,
            dataset="random",
            mean=normalisation.mean,
            std=normalisation.std,
            options={},
            recipe={"label": "reduced recipe", "epochs": 3},
            machine={},
        )
        run_dir = folder.parent / f"runs-of-{folder.name}" / "tiny" / f"{method}-{seed}"
        run_dir.mkdir(parents=True)
        run.write(run_dir)
        files.write_text(run_dir / "training.jsonl", '{"epoch": 1, "losses": {"loss": 1.5}}\n')
        saved = Checkpoint(epoch=1, network=net.module.state_dict(), auxiliary={}, optimizer={}, scaler={})
        path = checkpoint.save(run_dir, saved)
        specs = [net.topology.parse(text) for text in ("d1-1-1", "d2-1-3", "1-3.4-5-6.7-8-9")]
        trained = TrainedRun(folder=run_dir, run=run, net=net, checkpoint=path)
        complaints = Exporter(trained, experiment, method, graphs=GRAPHS).export(specs)
        assert complaints == []
    bundle = open_bundle(folder / "tiny" / methods[-1])
    store_sweep(bundle, *measured_sweep(bundle, list(ordered(bundle.topology)), "ordered", Settings(device="cpu")))
    return folder


def make_heavy(folder: Path) -> None:
    """Make a bundle's weights a sparse file of 40 GiB, which takes many seconds to hash and no room on the disk."""
    os.truncate(folder / "tiny" / "common" / "weights.bin", 40 << 30)
