"""What all methods of an experiment share, written once: topology, classes, images for calibration and evaluation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stimcore import files
from stimcore.bundle import Experiment, open_experiment
from stimcore.data.images import Dataset, calibration_subset
from stimcore.errors import UsageError
from stimcore.subnets.topology import Topology


def shared_experiment(
    folder: Path, dataset: Dataset, topology: Topology, *, mean: Sequence[float], std: Sequence[float], twin: bool
) -> Experiment:
    """Writes what all methods share, or checks that what is there is the same.

    Args:
        folder: `exported/EXPERIMENT`.
        dataset: Images and classes.
        topology: Of the network to export.
        mean: Normalisation that the network was trained with.
        std: Normalisation that the network was trained with.
        twin: Whether the network is a sub-network of the experiment's, trained alone.

    Raises:
        UsageError: The folder holds another experiment, or a twin comes before its main network.
    """
    calibration = calibration_subset(dataset.train)
    if (folder / "experiment.json").exists():
        there = open_experiment(folder)
        differ = [
            what
            for what, same in (
                ("network", twin or there.topology == topology),
                ("classes", there.classes == dataset.classes),
                ("normalisation", (there.mean, there.std) == (tuple(mean), tuple(std))),
                ("calibration images", np.array_equal(there.calibration, calibration.pixels)),
                ("evaluation images", np.array_equal(there.evaluation[0], dataset.test.pixels)),
            )
            if not same
        ]
        if differ:
            raise UsageError(f"{folder} holds another experiment ({', '.join(differ)} differ)", todo="Give another --out.")
        return there
    if twin:
        raise UsageError(
            f"{folder} has no main network yet", todo="Export a run of the whole network there first, then its twins."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, images in (("calibration.npz", calibration), ("evaluation.npz", dataset.test)):
        with files.replacing(folder / name) as temporary, temporary.open("wb") as handle:
            np.savez_compressed(handle, pixels=images.pixels, labels=images.labels)
        files.store_once(folder / name, folder.parent.glob(f"*/{name}"))
    experiment = Experiment(
        path=folder,
        dataset=dataset.name,
        licence=dataset.licence,
        classes=dataset.classes,
        mean=tuple(mean),
        std=tuple(std),
        image_shape=dataset.image_shape,
        topology=topology,
        hashes={name: files.sha256(folder / name) for name in ("calibration.npz", "evaluation.npz")},
    )
    experiment.write()
    return experiment
