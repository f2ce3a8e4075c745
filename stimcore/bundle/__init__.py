"""The bundle: what training leaves for serving. Schema in `schema.py`, opening and hashing in `opening.py`.

    exported/EXPERIMENT/experiment.json, calibration.npz, evaluation.npz
    exported/EXPERIMENT/METHOD/manifest.json, main.onnx, weights.bin, statistics.npz, subnet-*.onnx, training.jsonl,
                               sweep-*.json, latency.json

`python -m stimcore.bundle verify DIR` checks it. Only that command runs networks; the rest knows no onnxruntime.
"""

from stimcore.bundle.opening import Problem, check_hashes, open_bundle, open_experiment, scan
from stimcore.bundle.schema import VERSION, Bundle, Experiment, FileEntry, Manifest, PartEntry

__all__ = [
    "VERSION",
    "Bundle",
    "Experiment",
    "FileEntry",
    "Manifest",
    "PartEntry",
    "Problem",
    "check_hashes",
    "open_bundle",
    "open_experiment",
    "scan",
]
