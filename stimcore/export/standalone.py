"""Self-contained files, one for each network, for users who want a single one: batch norms folded, also in half precision."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

import onnx

from stimcore import files
from stimcore.bundle import Bundle
from stimcore.bundle.store import Contents, update_bundle
from stimcore.engine.engine import Engine
from stimcore.engine.metadata import Measured, add_metadata
from stimcore.engine.provider import file_session
from stimcore.errors import ParityError
from stimcore.export.exporter import OnProgress, ignore_progress
from stimcore.export.parity import FLOAT16, FLOAT32, Floats, Parity, evaluation_logits
from stimcore.export.uint8_input import PIXELS, as_pixels, describe_input, with_preprocessing
from stimcore.subnets.spec import Spec

FOLDER, INDEX = "standalone", "index.json"
PART = ".standalone.part"
"""Hidden folder in the bundle in which the files are written and checked."""


@dataclass(frozen=True, kw_only=True)
class StandaloneFile:
    """One written file, compared with the network of the bundle that it was made from.

    Attributes:
        file: Name of the file.
        spec: The sub-network in its long form.
        sha256: Hash of the file.
        bytes: Bytes of the file.
        precision: `float32`, `float16` or `int8`.
        input: `images` (normalised, float32) or `pixels` (uint8, preprocessing in the graph).
        parity: Largest difference of logits, divided by the largest logit.
        agreement: Share of images for which both give the same class.
        correct: Evaluation images that the file classifies correctly in onnxruntime.
        images: Number of evaluation images.
    """

    file: str
    spec: str
    sha256: str
    bytes: int
    precision: str
    input: str
    parity: float
    agreement: float
    correct: int
    images: int


def write_standalone(
    bundle: Bundle,
    specs: Sequence[Spec],
    *,
    half: bool = False,
    preprocessing: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> list[StandaloneFile]:
    """Write `standalone/NAME.onnx` for every spec into the bundle's folder, and `standalone/index.json`.

    Args:
        bundle: Opened and verified.
        specs: Any sub-networks.
        half: Also write each file in half precision (float16 weights and arithmetic, float32 input and output).
        preprocessing: Also write each file with the preprocessing in its graph, `NAME-uint8.onnx`: see
            `stimcore.export.uint8_input`.
        on_progress: Called after every file.

    Raises:
        ParityError: A file gives other logits than the network in the bundle. Nothing is written then.
    """
    part = bundle.path / PART
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        engine = Engine(bundle, device="cpu")
        rows: list[StandaloneFile] = []
        total = len(specs) * (1 + half) * (1 + preprocessing)
        for spec in specs:
            reference = evaluation_logits(partial(engine.logits, spec), bundle.experiment)
            model = onnx.load_from_string(engine.standalone(spec))
            stem = "main" if spec == bundle.topology.full else f"subnet-{bundle.topology.short(spec)}"
            variants = [(f"{stem}.onnx", "float32", model)]
            if half:
                variants.append((f"{stem}-fp16.onnx", "float16", _in_half_precision(model)))
            if preprocessing:
                steps = bundle.experiment.preprocessing
                variants += [
                    (f"{name.removesuffix('.onnx')}-uint8.onnx", precision, with_preprocessing(variant, steps))
                    for name, precision, variant in variants
                ]
            for name, precision, variant in variants:
                rows.append(_write(bundle, spec, name, precision, variant, reference))
                line = f"{FOLDER}/{name}: {rows[-1].bytes / 1e6:.2f} MB, parity {rows[-1].parity:.1e}"
                on_progress(len(rows), total, line)

        def contents(present: Bundle) -> Contents:
            written: dict[str, bytes] = {f"{FOLDER}/{INDEX}": index_content(present, rows)}
            return {**written, **{f"{FOLDER}/{row.file}": part / row.file for row in rows}}

        update_bundle(bundle.path, contents)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return rows


def _write(bundle: Bundle, spec: Spec, name: str, precision: str, model: onnx.ModelProto, reference: Floats) -> StandaloneFile:
    """Write a file into the hidden folder, check it, and write the results into its description.

    Raises:
        ParityError: The file gives other logits than `reference`.
    """
    path = bundle.path / PART / name
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    session = file_session(path)
    steps, given = bundle.experiment.preprocessing, model.graph.input[0].name
    prepare = partial(as_pixels, preprocessing=steps) if given == PIXELS else steps
    logits = evaluation_logits(lambda images: session.run(None, {given: images})[0], bundle.experiment, prepare)
    parity = Parity.of(logits, reference)
    tolerance = FLOAT32 if precision == "float32" else FLOAT16
    if (reason := parity.complaint(name, tolerance)) is not None:
        raise ParityError(reason)
    labels = bundle.experiment.evaluation[1]
    correct = int((logits.argmax(1) == labels).sum())
    measured = Measured(correct=correct, images=len(labels), parity=parity.error)
    optimiser = next(item.value for item in model.metadata_props if item.key == "optimiser")
    add_metadata(model, bundle.experiment, bundle.manifest, spec, measured, optimiser=optimiser)
    if given == PIXELS:
        describe_input(model, steps)
    path.write_bytes(model.SerializeToString())
    return StandaloneFile(
        file=name,
        spec=str(spec),
        sha256=files.sha256(path),
        bytes=path.stat().st_size,
        precision=precision,
        input=given,
        parity=parity.error,
        agreement=parity.agreement,
        correct=correct,
        images=len(labels),
    )


def index_content(bundle: Bundle, rows: Sequence[StandaloneFile]) -> bytes:
    """Return the index with rows in place of older ones of the same files; rows of another bundle go."""
    name = f"{FOLDER}/{INDEX}"
    before = json.loads(bundle.read(name)) if bundle.has(name) else {}
    present = before["files"] if before.get("bundle") == bundle.fingerprint else []
    listed = {row["file"]: row for row in [*present, *map(asdict, rows)]}
    index = {"version": 1, "bundle": bundle.fingerprint, "files": [listed[name] for name in sorted(listed)]}
    return files.json_text(index).encode()


def _in_half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose weights and arithmetic are float16."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    converted: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True)
    # the converter appends the casts of inputs behind the nodes that read them
    OnnxModel(converted).topological_sort()
    return converted
