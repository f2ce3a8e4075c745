"""Writes the part of a bundle that all methods of an experiment share, once: `experiment.json` and the image files."""

import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from stimcore import files
from stimcore.bundle import VERSION, Experiment, open_experiment
from stimcore.bundle.experiment import IMAGE_FILES
from stimcore.bundle.store import recover, writing
from stimcore.data.images import Dataset, Images, calibration_subset
from stimcore.data.normalise import Normalisation
from stimcore.data.preprocessing import Preprocessing
from stimcore.errors import BundleError, UsageError
from stimcore.subnets.topology import Topology


def shared_experiment(
    folder: Path, dataset: Dataset, topology: Topology, normalisation: Normalisation, *, twin: bool
) -> Experiment:
    """Write what all methods of an experiment share, or make sure that what is there is the same.

    An experiment without any method, which an export that failed or was stopped has left, is replaced.

    Args:
        folder: `exported/EXPERIMENT`.
        dataset: Images and classes.
        topology: The topology of the network that is exported.
        normalisation: Mean and standard deviation that the network was trained with.
        twin: Whether the network is a sub-network of the experiment's network, trained alone.

    Raises:
        UsageError: The folder holds another experiment or one of version 1, or it has no main network yet for a twin.
    """
    if twin and not (folder / "experiment.json").exists():
        raise UsageError(
            f"{folder} has no main network yet", todo="Export a run of the whole network there first, then its twins."
        )
    preprocessing = dataset.preprocessing or Preprocessing.without_resize(dataset.image_shape, normalisation)
    wanted = Experiment(
        path=folder,
        dataset=dataset.name,
        licence=dataset.licence,
        classes=dataset.classes,
        preprocessing=dataclasses.replace(preprocessing, normalisation=normalisation),
        topology=topology,
        hashes={},
    )
    images = {"calibration.npz": calibration_subset(dataset.train), "evaluation.npz": dataset.test}
    folder.mkdir(parents=True, exist_ok=True)
    # two exports may find an empty folder at the same moment
    with writing(folder):
        recover(folder)
        # a twin needs the network that is there, finished or not
        if (folder / "experiment.json").exists() and (twin or _is_used(folder)):
            present = open_experiment(folder)
            _refuse_differences(present, wanted, images, twin=twin)
            return present
        for name, part in images.items():
            with files.replacing(folder / name) as temporary:
                temporary.write_bytes(_packed(part))
            files.store_once(folder / name, folder.parent.glob(f"*/{name}"))
        experiment = dataclasses.replace(wanted, hashes={name: files.sha256(folder / name) for name in images})
        files.write_json(folder / "experiment.json", experiment.to_dict())
        return experiment


def check_unchanged(experiment: Experiment) -> None:
    """Make sure that an experiment is still the one on the disk. The caller holds the experiment.

    Until its first method is there, another export may replace it or remove it while this one waits.

    Raises:
        UsageError: It is not.
    """
    try:
        same = open_experiment(experiment.path).sha256 == experiment.sha256
    except BundleError:
        same = False
    if not same:
        raise UsageError(
            f"the experiment in {experiment.path} was replaced or removed by another export meanwhile",
            todo="Start this export again.",
        )


def remove_unused(folder: Path) -> None:
    """Remove the files of an experiment that has no method. The caller holds the experiment."""
    if not _is_used(folder):
        # experiment.json first: images that are left behind when the process is killed here are replaced by the next export
        for name in ("experiment.json", *IMAGE_FILES):
            (folder / name).unlink(missing_ok=True)


def _is_used(folder: Path) -> bool:
    """Return whether an experiment has a method; one that is being moved into its place under a hidden name counts."""
    return next(folder.glob("*/manifest.json"), None) is not None


def _refuse_differences(present: Experiment, wanted: Experiment, images: Mapping[str, Images], *, twin: bool) -> None:
    if present.version < VERSION:
        raise UsageError(
            f"{present.path} holds an experiment of version {present.version}",
            allowed=f"version {VERSION}",
            todo=f"'python -m stimcore.bundle migrate {present.path}' brings it to this version.",
        )
    stored, given = (dataclasses.replace(e.preprocessing, normalisation=_NEUTRAL) for e in (present, wanted))
    same = {
        "network": twin or present.topology == wanted.topology,
        "classes": present.classes == wanted.classes,
        "normalisation": present.preprocessing.normalisation == wanted.preprocessing.normalisation,
        "preprocessing": stored == given,
        "calibration images": np.array_equal(present.calibration, images["calibration.npz"].stored),
        "evaluation images": np.array_equal(present.evaluation[0], images["evaluation.npz"].stored),
    }
    if differing := [name for name, equal in same.items() if not equal]:
        raise UsageError(f"{present.path} holds another experiment ({', '.join(differing)} differ)", todo="Give another --out.")


_NEUTRAL = Normalisation((), ())


def _packed(images: Images) -> bytes:
    """Return images and labels as the content of an npz file; equal images give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, pixels=images.stored[:], labels=images.labels)
    return buffer.getvalue()
