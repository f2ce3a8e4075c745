"""Self-contained files for somebody who wants just one network: batch norms folded, one file, also in half precision."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from stimcore import files
from stimcore.bundle import Bundle
from stimcore.engine.engine import Engine
from stimcore.engine.provider import file_session
from stimcore.errors import ParityError
from stimcore.export.parity import TOLERANCE
from stimcore.subnets.spec import Spec

HALF_TOLERANCE, HALF_AGREEMENT = 2e-2, 0.99
"""What half precision may differ: logits over the largest one, and share of images with the same class."""
BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Standalone:
    """One written file and how it compares with the listed network that it was made of.

    Attributes:
        parity: Largest difference of logits over the largest logit.
        agreement: Share of images on which both say the same class.
        correct: Images, in onnxruntime.
    """

    file: str
    spec: str
    sha256: str
    bytes: int
    precision: str
    parity: float
    agreement: float
    correct: int
    images: int


def write_standalone(
    bundle: Bundle,
    specs: Sequence[Spec],
    *,
    half: bool = False,
    tell: Callable[[int, int, str], None] = lambda done, total, line: None,
) -> list[Standalone]:
    """Writes `standalone/NAME.onnx` for every spec into the bundle's folder, and `standalone/index.json`.

    Args:
        bundle: Opened and verified.
        specs: Any sub-networks.
        half: Also a file in half precision (weights and arithmetic float16, input and output float32).
        tell: Gets files done, in all, and a line.

    Raises:
        ParityError: A file does not say what the network in the bundle says; it is not kept.
    """
    folder = bundle.path / "standalone"
    folder.mkdir(exist_ok=True)
    engine = Engine(bundle, device="cpu")
    found: list[Standalone] = []
    total = len(specs) * (1 + half)
    for spec in specs:
        truth = _all(partial(engine.logits, spec), bundle)
        model = onnx.load_from_string(engine.standalone(spec))
        stem = "main" if spec == bundle.topology.full else f"subnet-{bundle.topology.short(spec)}"
        variants = [(f"{stem}.onnx", "float32", model)]
        if half:
            variants.append((f"{stem}-fp16.onnx", "float16", _half(model)))
        for name, precision, variant in variants:
            with files.replacing(folder / name) as temporary:
                onnx.checker.check_model(variant, full_check=True)
                temporary.write_bytes(variant.SerializeToString())
                row = _checked(temporary, name, spec, precision, truth, bundle)
            found.append(row)
            tell(len(found), total, f"standalone/{name}: {row.bytes / 1e6:.2f} MB, parity {row.parity:.1e}")
    _index(folder / "index.json", bundle, found)
    return found


def _index(path: Path, bundle: Bundle, rows: Sequence[Standalone]) -> None:
    """Adds rows to the index, in place of older ones of the same files; rows of another bundle go."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept = before["files"] if before.get("bundle") == bundle.fingerprint else []
    listed = {row["file"]: row for row in [*kept, *map(asdict, rows)]}
    files.write_json(path, {"version": 1, "bundle": bundle.fingerprint, "files": [listed[name] for name in sorted(listed)]})


def _half(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    converted: onnx.ModelProto = convert_float_to_float16(copy, keep_io_types=True)
    OnnxModel(converted).topological_sort()  # the converter appends the casts of inputs behind their readers
    return converted


def _all(logits: Callable[[NDArray[np.float32]], NDArray[np.float32]], bundle: Bundle) -> NDArray[np.float32]:
    pixels = bundle.experiment.evaluation[0]
    return np.concatenate(
        [logits(bundle.experiment.normalise(pixels[start : start + BATCH])) for start in range(0, len(pixels), BATCH)]
    )


def _checked(path: Path, name: str, spec: Spec, precision: str, truth: NDArray[np.float32], bundle: Bundle) -> Standalone:
    session = file_session(path)
    logits = _all(lambda images: session.run(None, {"images": images})[0], bundle)
    labels = bundle.experiment.evaluation[1]
    parity = float(np.abs(logits - truth).max() / np.abs(truth).max())
    agreement = float((logits.argmax(1) == truth.argmax(1)).mean())
    tolerance, least = (TOLERANCE, 0.999) if precision == "float32" else (HALF_TOLERANCE, HALF_AGREEMENT)
    if parity > tolerance or agreement < least:
        raise ParityError(
            f"{name} differs from the bundle's network by {parity:.1e} of its largest logit, same class on {agreement:.2%}",
            allowed=f"at most {tolerance:.0e}, at least {least:.1%}",
        )
    return Standalone(
        file=name,
        spec=str(spec),
        sha256=files.sha256(path),
        bytes=path.stat().st_size,
        precision=precision,
        parity=parity,
        agreement=agreement,
        correct=int((logits.argmax(1) == labels).sum()),
        images=len(labels),
    )
