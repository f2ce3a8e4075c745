"""The bundle: the format in which the training half hands networks to the serving half. docs/bundle.md describes it.

    exported/EXPERIMENT/   experiment.json, README.md, calibration.npz, evaluation.npz
    exported/EXPERIMENT/METHOD/   manifest.json, main.onnx, weights.bin, statistics.npz, subnet-*.onnx, hits.npz, wall.json,
                                  training.jsonl, sweep-*.json, latency.json

This package knows no onnxruntime; only its commands (`python -m stimcore.bundle verify|migrate`) run networks.
"""

from stimcore.bundle.bundle import Bundle
from stimcore.bundle.experiment import VERSION, Experiment
from stimcore.bundle.hits import Hits
from stimcore.bundle.manifest import ExitEntry, FileEntry, Manifest, PartEntry
from stimcore.bundle.opening import Problem, check_hashes, open_bundle, open_experiment, scan
from stimcore.bundle.wall import Answers, Wall

__all__ = [
    "VERSION",
    "Answers",
    "Bundle",
    "Experiment",
    "ExitEntry",
    "FileEntry",
    "Hits",
    "Manifest",
    "PartEntry",
    "Problem",
    "Wall",
    "check_hashes",
    "open_bundle",
    "open_experiment",
    "scan",
]
