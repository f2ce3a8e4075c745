"""The images on which an ONNX file is evaluated, and what its input is normalised with."""

import json
from pathlib import Path

from stimcore.data.images import Dataset
from stimcore.data.normalise import Normalisation, per_channel
from stimcore.data.preprocessing import Preprocessing
from stimcore.data.sources import load
from stimcore.errors import StimcoreError, UsageError
from stimcore.files import expanded
from stimcore.surgery.reading import OnnxFile

FOLDER = "folder:"


def load_for(file: OnnxFile, dataset: str, data_root: Path | None = None) -> Dataset:
    """Return a data set; the pictures of a folder get the size that the file takes, unless the name says another.

    Args:
        file: The ONNX file.
        dataset: `folder:PATH`, `folder:PATH@PIXELS`, or a name of `stimcore.data.sources`.
        data_root: Folder of a named data set.

    Raises:
        UsageError: There is no such data set.
        DataMissing: It is not where it was expected, or is no data set.
    """
    _, height, width = file.sizes
    path = dataset.removeprefix(FOLDER)
    sized = "@" in path and not expanded(Path(path)).is_dir()
    if dataset.startswith(FOLDER) and height is not None and height == width and not sized:
        dataset = f"{dataset}@{height}"
    return load(dataset, data_root)


def normalisation_for(
    file: OnnxFile, dataset: Dataset, mean: str | None = None, std: str | None = None
) -> tuple[Normalisation, str]:
    """Return what the input of a network is normalised with, and a sentence on where that is known from.

    Args:
        file: The ONNX file; those that stimcore wrote say it themselves.
        dataset: The images.
        mean: `--mean`: a number per channel, between commas; None where it wasn't given.
        std: `--std`.

    Raises:
        UsageError: One of the two is given without the other, or not one number per channel.
    """
    channels = dataset.image_shape[0]
    if (mean is None) != (std is None):
        raise UsageError("--mean without --std, or --std without --mean", allowed="both, or neither")
    if mean is not None:
        values = Normalisation(per_channel("--mean", mean, (), channels), per_channel("--std", std, (), channels))
        return values, "normalised as --mean and --std say"
    if (stated := _stated(file)) is not None and len(stated.mean) == channels:
        return stated, "normalised as the file says"
    shown = ", ".join(f"{value:g}" for value in (*dataset.mean, *dataset.std))
    return dataset.normalisation, (
        f"{file.path.name} doesn't say how its images are normalised: mean and deviation of {dataset.name} are used ({shown}); "
        "--mean and --std give others"
    )


def _stated(file: OnnxFile) -> Normalisation | None:
    try:
        return Preprocessing.from_dict(json.loads(file.metadata["preprocessing"])).normalisation
    except (KeyError, ValueError, TypeError, StimcoreError):
        return None  # not written by stimcore
