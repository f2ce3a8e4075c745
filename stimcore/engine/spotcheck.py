"""Runs one listed network as a stranger would and holds it against its manifest."""

import onnxruntime as ort

from stimcore.bundle import Bundle
from stimcore.errors import BundleError

BATCH = 500
SLACK = 2
"""Images by which another processor or another onnxruntime may differ: two logits can be as near as float32 rounds."""


def spot_check(bundle: Bundle, name: str) -> int:
    """Images that a listed network gets right.

    Raises:
        BundleError: They are not as many as the manifest says.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(bundle.path / name, options, providers=["CPUExecutionProvider"])
    pixels, labels = bundle.experiment.evaluation
    correct = 0
    for start in range(0, len(pixels), BATCH):
        images = bundle.experiment.normalise(pixels[start : start + BATCH])
        correct += int((session.run(None, {"images": images})[0].argmax(1) == labels[start : start + BATCH]).sum())
    stored = bundle.manifest.networks[name].correct
    if abs(correct - stored) > SLACK:
        raise BundleError(f"{bundle.path / name} gets {correct:,} images right, its manifest says {stored:,}")
    return correct
