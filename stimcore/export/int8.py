"""Self-contained files with 8-bit weights and activations, by onnxruntime's own quantiser, with the accuracy that is left.

Weights have a scale per channel, activations one per tensor: from the smallest to the largest value that the bundle's
calibration images lead to. The graph has pairs of QuantizeLinear and DequantizeLinear (QDQ), which every provider of
onnxruntime understands.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from stimcore import files
from stimcore.analysis.intervals import wilson
from stimcore.bundle import Bundle, Experiment
from stimcore.bundle.card import write_card
from stimcore.bundle.store import Contents, update_bundle, writing
from stimcore.engine.engine import Engine
from stimcore.engine.metadata import Measured, add_metadata
from stimcore.engine.provider import file_session
from stimcore.errors import ParityError
from stimcore.export.exporter import OnProgress, ignore_progress
from stimcore.export.parity import Parity, evaluation_logits
from stimcore.export.standalone import FOLDER, INDEX, StandaloneFile, index_content
from stimcore.subnets.spec import Spec

PRECISION = "int8"
CALIBRATION_IMAGES, QUANTISER_BATCH = 512, 64
"""Calibration images that the quantiser sees, and how many at once."""


def write_int8(
    bundle: Bundle, specs: Sequence[Spec], *, min_accuracy: float | None = None, on_progress: OnProgress = ignore_progress
) -> list[StandaloneFile]:
    """Write `standalone/NAME-int8.onnx` for every spec into the bundle's folder, and into its model card.

    Args:
        bundle: Opened and verified.
        specs: Any sub-networks.
        min_accuracy: Accuracy in percent below which a file is refused; None accepts every accuracy.
        on_progress: Called after every file.

    Raises:
        ParityError: A file has a lower accuracy than `min_accuracy`. Nothing is written then.
    """
    engine, rows = Engine(bundle, device="cpu"), list[StandaloneFile]()
    folder = Path(tempfile.mkdtemp(prefix="stimcore-int8-"))
    try:
        for spec in specs:
            rows.append(_quantised(engine, spec, folder))
            row = rows[-1]
            accuracy, before = 100 * row.correct / row.images, _float_correct(engine, spec)
            low, high = wilson(row.correct, row.images)
            line = f"{row.file}: {accuracy:.2f}% [{low:.2f}, {high:.2f}] of {row.images:,} images, {before:,} right before"
            if min_accuracy is not None and accuracy < min_accuracy:
                raise ParityError(
                    f"{row.file} classifies {accuracy:.2f}% of {row.images:,} images correctly, "
                    f"{100 * before / row.images:.2f}% before it was quantised",
                    allowed=f"{min_accuracy:g}% and more (--min-accuracy)",
                )
            on_progress(len(rows), len(specs), line)

        def contents(present: Bundle) -> Contents:
            written: dict[str, bytes | Path] = {f"{FOLDER}/{INDEX}": index_content(present, rows)}
            return written | {f"{FOLDER}/{row.file}": (folder / row.file).read_bytes() for row in rows}

        update_bundle(bundle.path, contents)
        with writing(bundle.experiment.path):
            write_card(bundle.experiment.path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return rows


class _CalibrationImages(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no annotations
    """The calibration images of an experiment in batches, spread evenly over all of them."""

    def __init__(self, experiment: Experiment) -> None:
        count = len(experiment.calibration)
        chosen = np.linspace(0, count - 1, min(CALIBRATION_IMAGES, count)).astype(np.int64)
        self._batches = iter(
            experiment.normalise(experiment.calibration[chosen[start : start + QUANTISER_BATCH]])
            for start in range(0, len(chosen), QUANTISER_BATCH)
        )

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch, None behind the last."""
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def _quantised(engine: Engine, spec: Spec, folder: Path) -> StandaloneFile:
    """Write the quantised file of a sub-network, and return what was measured of it."""
    bundle = engine.bundle
    experiment, topology = bundle.experiment, bundle.topology
    stem = "main" if spec == topology.full else f"subnet-{topology.short(spec)}"
    plain, prepared, path = (folder / name for name in ("plain.onnx", "prepared.onnx", f"{stem}-int8.onnx"))
    plain.write_bytes(engine.standalone(spec))
    with _quiet():
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            path,
            _CalibrationImages(experiment),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    session = file_session(path)
    logits = evaluation_logits(lambda images: session.run(None, {"images": images})[0], experiment)
    labels = experiment.evaluation[1]
    parity = Parity.of(logits, evaluation_logits(lambda images: engine.logits(spec, images), experiment))
    correct = int((logits.argmax(1) == labels).sum())
    model = onnx.load(path)
    measured = Measured(correct=correct, images=len(labels), parity=parity.error)
    optimiser = f"quantised (QDQ, per channel) by onnxruntime {ort.__version__}"
    add_metadata(model, experiment, bundle.manifest, spec, measured, optimiser=optimiser)
    model.metadata_props.add(key="precision", value=PRECISION)
    model.metadata_props.add(key="correct_before_quantisation", value=str(_float_correct(engine, spec)))
    path.write_bytes(model.SerializeToString())
    return StandaloneFile(
        file=path.name,
        spec=str(spec),
        sha256=files.sha256(path),
        bytes=path.stat().st_size,
        precision=PRECISION,
        input="images",
        parity=parity.error,
        agreement=parity.agreement,
        correct=correct,
        images=len(labels),
    )


def _float_correct(engine: Engine, spec: Spec) -> int:
    """Return how many evaluation images the network classifies correctly before it is quantised."""
    stored = engine.bundle.known_correct(spec)
    if stored is not None:
        return stored
    return next(progress.results[spec].correct for progress in engine.evaluate([spec]) if progress.done)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's advice out of the output of the command."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
