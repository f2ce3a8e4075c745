"""The answers of a worker to calls: logits, classifications, self-contained ONNX files."""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stimcore.bundle import Answers, Experiment
from stimcore.engine.cuda import GpuUnusable
from stimcore.engine.inference import Floats, InferenceEngine
from stimcore.engine.provider import Provider, pick
from stimcore.errors import BundleError, StimcoreError, UsageError
from stimcore.serve import image_codec
from stimcore.serve.errors import Late
from stimcore.serve.workers.engines import EngineCache
from stimcore.serve.workers.messages import AnswerImages, Call, Classify, Forget, Infer, Standalone
from stimcore.subnets.spec import Spec

CHECK_IMAGES = 32
"""Evaluation images on which a self-contained file is compared with the engine."""
TOLERANCE = 1e-4
"""Largest difference of two logits in this comparison, relative to the largest logit when that exceeds 1."""


def answer_call(call: Call, engines: EngineCache, provider: Provider, check_wanted: Callable[[], None]) -> object:
    """Return the answer to a call; the class of the call documents its form.

    Args:
        call: The call.
        engines: The engines of this worker.
        provider: The execution provider on which a self-contained file is checked.
        check_wanted: Called between two steps of the work; raises `Late` when nobody waits for the answer any more.

    Raises:
        StimcoreError: The call can't be done.
    """
    match call:
        case Infer():
            return _infer(call, engines.open(call.bundle))
        case Classify():
            return _classify(call, engines.open(call.bundle), check_wanted)
        case AnswerImages():
            return _answer_images(call, engines.open(call.bundle))
        case Standalone():
            return _standalone(call.spec, engines.open(call.bundle), provider, check_wanted)
        case Forget():
            engines.close(call.bundle)
            return None
        case _:
            raise AssertionError(call)


def _infer(call: Infer, engine: InferenceEngine) -> tuple[Floats, int]:
    started = time.perf_counter_ns()
    logits = engine.logits(call.spec, call.images, recalibrate=call.recalibrate).astype(np.float32, copy=False)
    return np.ascontiguousarray(logits), time.perf_counter_ns() - started


def _classify(
    call: Classify, engine: InferenceEngine, check_wanted: Callable[[], None]
) -> tuple[bytes, list[tuple[Spec, list[float]]]]:
    experiment = engine.bundle.experiment
    pixels = _pixels(call, experiment)
    images = experiment.normalise(pixels[None])

    def nobody_waits() -> bool:
        try:
            check_wanted()
        except Late:
            return True
        return False

    engine.prepare(call.specs, nobody_waits)
    predictions = []
    for spec in call.specs:
        check_wanted()
        predictions.append((spec, _probabilities(engine.logits(spec, images)[0])))
    return image_codec.encode_png(pixels), predictions


def _answer_images(call: AnswerImages, engine: InferenceEngine) -> Answers:
    experiment = engine.bundle.experiment
    pixels = experiment.normalise(experiment.evaluation[0][np.array(call.images, np.int64)])
    logits = engine.logits(call.spec, pixels, recalibrate=call.recalibrate)
    if not np.isfinite(logits).all():
        raise StimcoreError(f"the logits of {call.spec} are not finite")
    return Answers.of(logits)


def _pixels(call: Classify, experiment: Experiment) -> NDArray[np.uint8]:
    """Return the image as uint8 `[C, H, W]` of the size that the networks take."""
    if call.image is not None:
        return image_codec.decode_image(call.image, experiment.preprocessing, call.max_pixels)
    images, _ = experiment.evaluation
    if call.index is None or not 0 <= call.index < len(images):
        raise UsageError(f"there is no evaluation image {call.index}", allowed=f"0 to {len(images) - 1}")
    pixels: NDArray[np.uint8] = images[call.index]
    return pixels


def _probabilities(logits: Floats) -> list[float]:
    """Return the softmax of logits `[K]`, in double precision so that the probabilities sum to 1."""
    wide = logits.astype(np.float64)
    exponentials = np.exp(wide - wide.max())
    return [float(value) for value in exponentials / exponentials.sum()]


def _standalone(spec: Spec, engine: InferenceEngine, provider: Provider, check_wanted: Callable[[], None]) -> bytes:
    """Compose a file, and return it only when a fresh session of it gives the engine's logits.

    The composition folds batch norms and rewires the graph, and nobody can check the file after it was downloaded.
    """
    model = engine.standalone(spec)
    check_wanted()
    experiment = engine.bundle.experiment
    images = experiment.normalise(experiment.evaluation[0][:CHECK_IMAGES])
    expected = engine.logits(spec, images)
    try:
        logits = provider.session(model, 1).run({"images": provider.value(images)})[0].numpy()
    except GpuUnusable:
        processor = pick("cpu")
        logits = processor.session(model, 1).run({"images": processor.value(images)})[0].numpy()
    if not np.allclose(logits, expected, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(expected).max()))):
        raise BundleError(f"the self-contained file of {spec} gives other logits than the bundle")
    return model
