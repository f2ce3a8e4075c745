"""Small real bundles for tests: a network with random weights and random pictures, through the real exporter.

Labels are what the network itself says (for most pictures), so that accuracies differ between sub-networks as in real life.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stimcore.bundle import Bundle, open_bundle
from stimcore.data.folder import image_folder
from stimcore.data.normalise import Normalisation
from stimcore.export.choices import GraphExporter
from stimcore.export.experiment import shared_experiment
from stimcore.export.exporter import Exporter
from stimcore.nets.catalogue import build
from stimcore.nets.norms import batch_norms
from stimcore.nets.staged import StagedNet
from stimcore.reference.calibrate import recalibrated
from stimcore.runs import checkpoint
from stimcore.runs.run import Run
from stimcore.runs.trained_run import open_run
from stimcore.subnets.families import ordered
from stimcore.subnets.spec import Spec
from stimcore.train.seeds import layers_seeded

NUM_CLASSES = 5
GRAPHS: GraphExporter = "torchscript"
"""What writes the graphs of the tests: it takes tenths of a second. That both give the same is tested in tests/nets."""
QUICKLY = ("--exporter", GRAPHS)
"""The same as options of the command."""


def random_net(network: str, side: int, seed: int) -> StagedNet:
    """A network whose batch norms differ from each other, as trained ones do."""
    with layers_seeded(seed, "net"):
        net = build(network, input_shape=(3, side, side), num_classes=NUM_CLASSES)
        for norm in batch_norms(net):
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
            torch.nn.init.normal_(norm.bias, std=0.2)
        for parameter in net.parameters():  # the head of a fresh transformer is zero: all of its answers would be the same
            if parameter.ndim > 1 and not parameter.any():
                torch.nn.init.normal_(parameter, std=0.5)
    return net.eval()


def write_pictures(folder: Path, net: StagedNet, *, side: int, train: int, test: int, seed: int = 0) -> None:
    """A folder of images, `train/CLASS/*.png` and `test/CLASS/*.png`, most of which are labelled by the network."""
    generator = np.random.Generator(np.random.PCG64(seed))
    coarse = generator.integers(0, 256, (train + test, 4, 4, 3), dtype=np.uint8)
    pixels = np.stack([np.asarray(Image.fromarray(c).resize((side, side), Image.Resampling.BICUBIC)) for c in coarse])
    ready = torch.from_numpy(Normalisation((0.5,) * 3, (0.25,) * 3)(pixels.transpose(0, 3, 1, 2)))
    with torch.no_grad():
        labels = recalibrated(net, net.topology.full, ready)(ready).argmax(1).numpy()
    other = generator.random(len(labels)) < 0.2
    labels[other] = generator.integers(0, NUM_CLASSES, int(other.sum()))
    labels[: 2 * NUM_CLASSES] = np.tile(np.arange(NUM_CLASSES), 2)  # every class in both parts
    labels[train : train + NUM_CLASSES] = np.arange(NUM_CLASSES)
    for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        target = folder / ("train" if i < train else "test") / f"class{label}"
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(target / f"{i:05}.png")


def write_run(
    run_dir: Path, pictures: Path, network: str = "resnet20", *, method: str = "common", side: int = 12, seed: int = 0
) -> None:
    """A run folder as `stimcore.train` leaves it, with random weights."""
    dataset = image_folder(pictures)
    net = random_net(network, side, seed)
    run_dir.mkdir(parents=True)
    Run(
        network=network,
        input_shape=dataset.image_shape,
        num_classes=len(dataset.classes),
        method=method,
        seed=seed,
        dataset=f"folder:{pictures}",
        mean=dataset.mean,
        std=dataset.std,
        options={},
        recipe={},
        machine={},
    ).write(run_dir)
    state = checkpoint.Checkpoint(epoch=1, network=net.module.state_dict(), auxiliary={}, optimizer={}, scaler={})
    checkpoint.save(run_dir, state)


def export_run(run_dir: Path, experiment_dir: Path, specs: list[Spec], *, name: str | None = None) -> Bundle:
    """Exports a run with the real exporter and opens the bundle."""
    trained = open_run(run_dir)
    run = trained.run
    dataset = image_folder(Path(run.dataset.removeprefix("folder:")))
    normalisation = Normalisation(run.mean, run.std)
    experiment = shared_experiment(experiment_dir, dataset, trained.net.topology, normalisation, twin=False)
    exporter = Exporter(trained, experiment, name or run.method, graphs=GRAPHS)
    assert exporter.export(specs) == []
    return open_bundle(exporter.target)


def small_experiment(
    root: Path, *, network: str = "resnet20", side: int = 12, train: int = 600, test: int = 400, subnets: bool = True
) -> list[Bundle]:
    """An experiment with two methods in `ROOT/exported/small`, and its run folders in `ROOT/runs/small`."""
    pictures = root / "pictures"
    write_pictures(pictures, random_net(network, side, 0), side=side, train=train, test=test)
    paths = []
    for seed, method in enumerate(("common", "stimulative")):
        run_dir = root / "runs" / "small" / f"{method}-0"
        write_run(run_dir, pictures, network, method=method, side=side, seed=seed)
        net = open_run(run_dir).net
        specs = list(ordered(net.topology)) if subnets else []
        paths.append(export_run(run_dir, root / "exported" / "small", specs).path)
    # the second export wrote the model card of both
    return [open_bundle(path) for path in paths]


def reference_inputs(bundle: Bundle) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised calibration and evaluation images as torch tensors."""
    experiment = bundle.experiment
    calibration, images = experiment.calibration, experiment.evaluation[0]
    return torch.from_numpy(experiment.normalise(calibration)), torch.from_numpy(experiment.normalise(images))


__all__ = [
    "GRAPHS",
    "QUICKLY",
    "export_run",
    "random_net",
    "reference_inputs",
    "small_experiment",
    "write_pictures",
    "write_run",
]
