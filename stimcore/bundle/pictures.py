"""Writes the evaluation images of an experiment as picture files, for programs that read files."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from stimcore import files
from stimcore.bundle.experiment import Experiment
from stimcore.data.program import folder_name
from stimcore.errors import BundleError, UsageError


def write_pictures(experiment: Experiment, folder: Path) -> int:
    """Write `FOLDER/CLASS/00000.png` for every evaluation image, and return how many there are.

    Args:
        experiment: Its images are written as they are stored, of the networks' size or of the size before resize and crop.
        folder: A new or empty folder. `stimcore.data.program.folder_name` gives the names of the folders in it.

    Raises:
        UsageError: The folder holds something.
        BundleError: Two classes would have the same folder.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty", todo="Give a new folder with --out.")
    names = [folder_name(name) for name in experiment.classes]
    if twice := [name for name, number in Counter(names).items() if number > 1]:
        raise BundleError(f"several classes of {experiment.name} would have the folder {twice[0]}")
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing_folder(folder) as temporary:
            _write(experiment, names, temporary)
    else:  # in its place, which may be that of a volume
        try:
            _write(experiment, names, folder)
        except BaseException:
            # after a full disk or Ctrl-C the folder is as empty as it was, so that the command can be repeated
            for name in names:
                shutil.rmtree(folder / name, ignore_errors=True)
            raise
    return len(experiment.evaluation[1])


def _write(experiment: Experiment, names: Sequence[str], folder: Path) -> None:
    for name in names:
        (folder / name).mkdir()
    for index, (image, label) in enumerate(zip(*experiment.evaluation, strict=True)):
        picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
        picture.save(folder / names[label] / f"{index:05}.png")
