"""The parity gate: runs a listed file as a stranger would and compares it with the torch reference."""

import os
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from stimcore import files
from stimcore.bundle import Experiment, FileEntry
from stimcore.engine.provider import file_session
from stimcore.nets.cost import Cost
from stimcore.subnets.spec import Spec

TOLERANCE = 1e-4
"""Largest difference of logits between torch and onnxruntime, over the largest logit, that is let through."""
AGREEMENT = 0.999
"""Smallest share of images on which both must say the same class."""
BATCH = 500


def checked(path: Path, spec: Spec, reference: NDArray[np.float32], experiment: Experiment, cost: Cost) -> FileEntry:
    """Runs the whole evaluation set through one file.

    Args:
        path: The file, its weights beside it.
        spec: What it holds.
        reference: Logits `[N, K]` of torch on the evaluation images.
        experiment: Has the images.
        cost: Parameters and MACs.

    Raises:
        onnx.checker.ValidationError: The file is not valid ONNX.
    """
    onnx.checker.check_model(os.fspath(path), full_check=True)
    session = file_session(path, threads=1)
    pixels, labels = experiment.evaluation
    logits: NDArray[np.float32] = np.concatenate(
        [
            session.run(None, {"images": experiment.normalise(pixels[start : start + BATCH])})[0]
            for start in range(0, len(pixels), BATCH)
        ]
    )
    said, wanted = logits.argmax(1), reference.argmax(1)
    correct = int((said == labels).sum())
    return FileEntry(
        sha256=files.sha256(path),
        bytes=path.stat().st_size,
        spec=str(spec),
        accuracy_pct=100 * correct / len(labels),
        correct=correct,
        correct_torch=int((wanted == labels).sum()),
        parity=float(np.abs(logits - reference).max() / np.abs(reference).max()),
        agreement=float((said == wanted).mean()),
        parameters=cost.parameters,
        macs=cost.macs,
    )


def complaint(name: str, entry: FileEntry) -> str | None:
    """Why a file can't be listed, None where it can."""
    if entry.parity > TOLERANCE:
        return f"{name} differs from torch by {entry.parity:.1e} of its largest logit (allowed: {TOLERANCE:.0e})"
    if entry.agreement < AGREEMENT:
        return (
            f"{name} agrees with torch on {100 * entry.agreement:.2f}% of the images (allowed: {100 * AGREEMENT:g}% and more)"
        )
    return None
