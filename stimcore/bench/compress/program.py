"""Starts `prune` in an environment that has Torch-Pruning, for `bench compress --torch-pruning PYTHON`."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import stimcore
from stimcore.bench import environments
from stimcore.errors import Unavailable


def version(python: Path) -> str:
    """Return Torch-Pruning's version in an environment.

    Raises:
        UsageError: There is no such program, or torch or torch-pruning is not installed there.
    """
    code = "import torch_pruning; from importlib.metadata import version; print(version('torch-pruning'))"
    return environments.version("--torch-pruning", python, code, "torch-pruning")


def prune(
    python: Path, weights: Path, folder: Path, shape: Sequence[int], asked: Sequence[tuple[float, int]]
) -> list[dict[str, Any]]:
    """Prune in the environment of Torch-Pruning; return the rows of the function `prune` there.

    Raises:
        Unavailable: The program failed there.
    """
    root = str(Path(stimcore.__file__).parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [str(python), "-m", "stimcore.bench.compress.prune", str(weights), str(folder)]
    command.append(json.dumps({"image_shape": list(shape), "asked": asked}))
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", check=False, env=os.environ | {"PYTHONPATH": path}
    )
    if done.returncode:
        last = next(reversed(done.stderr.strip().splitlines()), "")
        raise Unavailable(f"Torch-Pruning failed: {last[:200]}")
    rows: list[dict[str, Any]] = json.loads(done.stdout.strip().splitlines()[-1])
    return rows
