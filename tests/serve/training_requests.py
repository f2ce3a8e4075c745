"""A folder of a few pictures to train on, and requests for trainings that take a second."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stimcore.serve.types import RunRequest


def make_pictures(folder: Path, per_class: int = 20) -> Path:
    """Write pictures of two classes that differ in brightness; return the folder."""
    random = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 128)):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = random.integers(low, low + 128, (16, 16, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def run_request(**changes: Any) -> RunRequest:
    """Return a request for a small network on the pictures of `make_pictures`."""
    values = {"network": "resnet8", "dataset": "folder:pictures", "method": "common", "epochs": 1, **changes}
    return RunRequest.model_validate(values)
