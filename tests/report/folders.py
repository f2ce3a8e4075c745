"""Experiment folders written by hand: real hashes and made-up counts. The report opens no network, so the files are none.

They are bundles of version 1, written as JSON: every version of the program reads that form.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stimcore import files
from stimcore.recipes.catalogue import recipe
from stimcore.subnets.topology import Topology
from tests.analysis.made import IMAGES, SIX, sweep


def experiment(folder: Path, topology: Topology = SIX) -> Path:
    """Make an experiment without bundles and return its folder."""
    folder.mkdir(parents=True)
    for name in ("calibration.npz", "evaluation.npz"):
        np.savez(folder / name, pixels=np.zeros((2, 1, 4, 4), np.uint8), labels=np.zeros(2, np.int64))
    value = {
        "version": 1,
        "dataset": "made-by-hand",
        "licence": "none",
        "classes": list("abcdefghij"),
        "mean": [0.5],
        "std": [0.5],
        "image_shape": [1, 4, 4],
        "topology": topology.to_dict(),
        "hashes": {name: files.sha256(folder / name) for name in ("calibration.npz", "evaluation.npz")},
    }
    files.write_json(folder / "experiment.json", value)
    return folder


def bundle(
    folder: Path,
    name: str,
    correct: int,
    *,
    method: str | None = None,
    topology: Topology = SIX,
    spec: str | None = None,
    sweeps: Mapping[str, Mapping[str, int]] | None = None,
    records: Sequence[Mapping[str, Any]] = (),
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "a machine",
) -> Path:
    """Make a bundle with counts per family and spec, and return its folder."""
    path = folder / name
    path.mkdir()
    (path / "main.onnx").write_bytes(name.encode())
    hashes = {}
    if records:
        (path / "training.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
        hashes["training.jsonl"] = files.sha256(path / "training.jsonl")
    full = str(topology.full)
    entry = {
        "sha256": files.sha256(path / "main.onnx"),
        "bytes": 1,
        "spec": full,
        "accuracy_pct": 100 * correct / IMAGES,
        "correct": correct,
        "correct_torch": correct,
        "parity": 0.0,
        "agreement": 1.0,
        "parameters": 10,
        "macs": 1_000_000,
    }
    manifest = {
        "version": 1,
        "topology": topology.to_dict(),
        "method": method or name,
        "recipe": recipe("resnet20-fashion").to_dict(),
        "options": options or {},
        "seed": seed,
        "label": "reduced recipe",
        "spec": spec,
        "checkpoint_sha256": "",
        "opset": 20,
        "versions": {},
        "parts": [{"name": str(name.whole), "input": "", "output": ""} for name in topology.route(topology.full)],
        "hashes": hashes,
        "networks": {"main.onnx": entry},
        "images": IMAGES,
        "machine": {"device": device},
    }
    for kind, counts in (sweeps or {}).items():
        files.write_json(path / f"sweep-{kind}.json", sweep(counts, full, correct, kind=kind).to_dict())
    files.write_json(path / "manifest.json", manifest)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file that the report wrote."""
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))
