"""How cost grows: depth of the network, evaluation images, size of the family, and bundles of the catalogue.

Every point is a process of its own that opens a bundle with random weights and evaluates sub-networks of it through the tree of
prefixes, as the model server does. Time is processor time, and is divided by what it should grow with: nodes of the tree and
images, or bundles. A curve that is flat says that nothing else grows.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stimcore import files
from stimcore.bench.bundles import random_bundle
from stimcore.bench.check import at_least
from stimcore.bench.choices import SCALE_ALLOWED
from stimcore.errors import Unavailable
from stimcore.nets.catalogue import build
from stimcore.runs.machine import describe
from stimcore.train.seeds import layers_seeded

PIXELS, CLASSES = 16, 10
"""Side of the images: with it, a family of 9,261 sub-networks takes a minute."""

SHORT_S, MOST_TURNS = 5.0, 9
"""A point is measured again until its turns took so many seconds of processor time together, but at most so many times: one
turn of a third of a second says as much of the machine as of the point."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The points of every curve.

    Attributes:
        depths: Depths of the ResNets of which each block is left out once.
        families: Depths of the ResNets whose ordered sub-networks are evaluated; n blocks a stage have n^3 of them.
        images: Evaluation images of ResNet-20's ordered sub-networks.
        catalogues: Bundles.
        few_images: Evaluation and calibration images where other things grow.
    """

    depths: Sequence[int]
    families: Sequence[int]
    images: Sequence[int]
    catalogues: Sequence[int]
    few_images: int


FULL = Sizes(
    depths=(20, 32, 56, 110),
    families=(20, 38, 74, 128),
    images=(1000, 2000, 5000, 10_000),
    catalogues=(10, 100, 1000),
    few_images=64,
)
QUICK = Sizes(depths=(20, 32), families=(20, 32), images=(64, 128), catalogues=(2, 4), few_images=16)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured; the options of the command say what each field is."""

    rounds: int
    quick: bool


def run(settings: Settings) -> dict[str, Any]:
    """Measure, and return the report.

    Raises:
        UsageError: There are no turns.
        Unavailable: A point could not be measured.
    """
    at_least(settings, rounds=1)
    sizes = QUICK if settings.quick else FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundles = {
            depth: _bundle(folder / f"resnet{depth}", depth, sizes.few_images, sizes.few_images)
            for depth in {*sizes.depths, *sizes.families}
        }
        many = _bundle(folder / "images", 20, max(sizes.images), sizes.few_images)

        def point(size: int, bundle: Path, family: str, images: int) -> dict[str, Any]:
            asked = {"bundle": str(bundle), "family": family, "images": images}
            return {"size": size} | _measured(asked, settings.rounds)

        curves: dict[str, list[dict[str, Any]]] = {
            "depth": [point(depth, bundles[depth], "deletions", sizes.few_images) for depth in sizes.depths],
            "family": [point(0, bundles[depth], "ordered", sizes.few_images) for depth in sizes.families],
            "images": [point(images, many, "ordered", images) for images in sizes.images],
            "catalogue": [],
        }
        for size in sizes.catalogues:
            root = _catalogue(folder / f"catalogue{size}", bundles[sizes.depths[0]], size)
            curves["catalogue"].append({"size": size} | _measured({"folder": str(root)}, settings.rounds))
    for each in curves["family"]:
        each["size"] = each["subnetworks"]
    for curve in curves.values():
        for each in curve:
            each["unit_us"] = 1e6 * each["seconds"] / (each["nodes"] * each["images"] if "nodes" in each else each["bundles"])
    return {
        "bench": "scale",
        "network": "ResNets",
        "machine": describe(torch.device("cpu")),
        "n": settings.rounds,
        "quick": settings.quick,
        "ratios": {
            **{f"{name}_time": spread([each["unit_us"] for each in curve]) for name, curve in curves.items()},
            "family_memory": spread([each["peak_mb"] for each in curves["family"]]),
        },
        "megabytes": {"family": max(each["added_mb"] for each in curves["family"])},
        "pixels": PIXELS,
        "curves": curves,
    }


def show(report: Mapping[str, Any]) -> int:
    """Print the points and the ratios; return the exit code."""
    for name, curve in report["curves"].items():
        for point in curve:
            work = f"{point['nodes']:6} nodes" if "nodes" in point else " " * 12
            print(
                f"{name:10} {point['size']:6} {work} {point['seconds']:8.2f} s "
                f"{point['unit_us']:10.2f} us a unit {point['peak_mb']:6.0f} MB"
            )
    for name, value in report["ratios"].items():
        print(f"{name:20} largest over smallest {value:6.3f}   goal: at most {SCALE_ALLOWED}")
    return 0


def spread(values: Sequence[float]) -> float:
    """Return the largest over the smallest value.

    Example:
        >>> spread([2.0, 3.0, 2.5])
        1.5
    """
    return max(values) / min(values)


def _measured(asked: Mapping[str, Any], rounds: int) -> dict[str, Any]:
    """Measure one point so many times, a short one more often; return its best turn, and how many there were."""
    points = [_ask(asked) for _ in range(rounds)]
    while len(points) < MOST_TURNS and sum(point["seconds"] for point in points) < SHORT_S:
        points.append(_ask(asked))
    return _least(points) | {"turns": len(points)}


def _least(points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the turn with the least processor time, which other work on the machine adds to; memory is the largest."""
    largest = {name: max(point[name] for point in points) for name in ("peak_mb", "added_mb")}
    return min(points, key=lambda point: float(point["seconds"])) | largest


def _bundle(folder: Path, depth: int, images: int, calibration: int) -> Path:
    """Write a bundle of a ResNet with random weights."""
    folder.mkdir()
    with layers_seeded("bench weights"):
        net = build(f"resnet{depth}", input_shape=(3, PIXELS, PIXELS), num_classes=CLASSES).eval()
    return random_bundle(folder, net, images=images, calibration=calibration).path


def _catalogue(folder: Path, bundle: Path, count: int) -> Path:
    """Write experiments with one bundle each, all alike but for their names."""
    experiment = bundle.parent
    others = [path.name for path in experiment.iterdir() if path.is_dir() and path != bundle]
    for number in range(count):
        target = folder / f"copy{number}"
        shutil.copytree(experiment, target, copy_function=_link, ignore=lambda *_: others)
        # every bundle has a fingerprint of its own, as bundles have that were trained apart
        path = target / bundle.name / "manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        files.write_json(path, manifest | {"seed": number})
    return folder


def _link(source: str, target: str) -> None:
    """Give a file a second name; copy it where the file system can't."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _ask(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Measure one point in a process of its own."""
    command = [sys.executable, "-m", "stimcore.bench.scale_point", json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        last = next(reversed(done.stderr.strip().splitlines()), "")
        raise Unavailable(f"a point could not be measured: {last[:200]}")
    point: dict[str, Any] = json.loads(done.stdout)
    return point
