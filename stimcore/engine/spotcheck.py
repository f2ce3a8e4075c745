"""Runs one listed network of a bundle and compares it with the manifest."""

import onnxruntime as ort

from stimcore.bundle import Bundle
from stimcore.engine.cuda import CPU
from stimcore.engine.graph.external import load_inlined
from stimcore.engine.provider import session_options
from stimcore.errors import BundleError

CHECK_BATCH = 500
"""Images that run at once where a file is checked, here and when it is exported."""
SLACK = 2
"""Images by which another processor or another onnxruntime may differ: two logits can be equal up to float32 rounding."""


def listed_session(bundle: Bundle, name: str, threads: int = 0) -> ort.InferenceSession:
    """Return a plain CPU session of a listed network, made from the bytes that have the listed hashes.

    Args:
        bundle: The bundle.
        name: File of the network.
        threads: Threads inside one operator; one per core when 0.

    Raises:
        BundleError: The file or that of its weights is missing, changed or broken.
    """
    model = load_inlined(bundle.read, name).SerializeToString()
    try:
        return ort.InferenceSession(model, session_options(threads), providers=[CPU])
    except Exception as reason:  # onnxruntime raises one type of error per status code
        raise _unusable(bundle, name, reason) from reason


def _unusable(bundle: Bundle, name: str, reason: Exception) -> BundleError:
    detail = (str(reason).splitlines() or [type(reason).__name__])[0].rpartition(" : ")[2]
    return BundleError(f"onnxruntime can't run {bundle.path / name} ({detail[:160].rstrip('.')})", todo="Export the run again.")


def spot_check(bundle: Bundle, name: str) -> int:
    """Return how many evaluation images a listed network classifies correctly.

    The file runs in a plain onnxruntime session, without the engine, as a user would run it.

    Args:
        bundle: The bundle.
        name: File of the network, a key of the manifest's `networks`.

    Raises:
        BundleError: The number differs from the manifest's by more than `SLACK` images, or the file does not run.
    """
    session = listed_session(bundle, name)
    pixels, labels = bundle.experiment.evaluation
    correct = 0
    for start in range(0, len(pixels), CHECK_BATCH):
        images = bundle.experiment.normalise(pixels[start : start + CHECK_BATCH])
        try:
            logits = session.run(None, {"images": images})[0]
        except Exception as reason:  # as above
            raise _unusable(bundle, name, reason) from reason
        if logits.shape != (len(images), len(bundle.experiment.classes)):
            raise BundleError(
                f"{bundle.path / name} answers {list(logits.shape)} for {len(images)} images", todo="Export the run again."
            )
        correct += int((logits.argmax(1) == labels[start : start + CHECK_BATCH]).sum())
    stored = bundle.manifest.networks[name].correct
    if abs(correct - stored) > SLACK:
        raise BundleError(f"{bundle.path / name} classifies {correct:,} images correctly, its manifest says {stored:,}")
    return correct
