"""The options of the benchmarks, apart from what they measure: `--help` needs none of the packages that a benchmark does."""

import argparse
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

from stimcore.engine.inference import Budget


def _add_step(line: argparse.ArgumentParser) -> None:
    """Add the options of `bench step`."""
    line.add_argument("--network", default="resnet32", help="a name of the catalogue (default: %(default)s)")
    line.add_argument("--batch-size", type=int, default=128, help="images per step (default: %(default)s)")
    line.add_argument("--pixels", type=int, default=32, help="side of the images (default: %(default)s)")
    line.add_argument("--classes", type=int, default=100, help="width of the logits (default: %(default)s)")
    line.add_argument("--rounds", type=int, default=20, help="steps of every variant that count (default: %(default)s)")
    line.add_argument("--memory-rounds", type=int, default=4, help="steps whose peak memory is taken (default: %(default)s)")
    line.add_argument("--precision", default="fp32", choices=["fp32", "bf16", "fp16"], help="(default: %(default)s)")
    line.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    line.add_argument("--every-method", action="store_true", help="also measure the other methods")


def _add_sweep(line: argparse.ArgumentParser) -> None:
    """Add the options of `bench sweep`."""
    line.add_argument("--network", default="resnet32", help="a name of the catalogue (default: %(default)s)")
    line.add_argument("--pixels", type=int, default=32, help="side of the images (default: %(default)s)")
    line.add_argument("--images", type=int, default=2000, help="evaluation images (default: %(default)s)")
    line.add_argument("--calibration", type=int, default=512, help="calibration images (default: %(default)s)")
    line.add_argument("--rounds", type=int, default=3, help="turns (default: %(default)s)")
    line.add_argument("--sample", type=int, default=3, help="sub-networks one by one in every turn (default: %(default)s)")
    line.add_argument("--threads", type=int, default=1, help="on the CPU (default: %(default)s)")
    line.add_argument("--unit-steps", type=int, default=Budget().unit_steps, help="parts in one graph (default: %(default)s)")
    line.add_argument("--device", default="cpu", help="of onnxruntime: auto, cpu, cuda or cuda:N (default: %(default)s)")


def _add_edit(line: argparse.ArgumentParser) -> None:
    """Add the options of `bench edit`."""
    line.add_argument(
        "--bundle",
        type=Path,
        default=Path("exported/resnet20-fashion/common"),
        metavar="DIR",
        help="exported/EXPERIMENT/METHOD (default: %(default)s)",
    )
    line.add_argument("--rounds", type=int, default=3, help="turns (default: %(default)s)")
    line.add_argument("--device", default="auto", help="of onnxruntime: auto, cpu, cuda or cuda:N (default: %(default)s)")


def _add_export(line: argparse.ArgumentParser) -> None:
    """Add the options of `bench export`."""
    line.add_argument("--network", default="mobilenetv3", help="a name of the catalogue (default: %(default)s)")
    line.add_argument("--pixels", type=int, default=32, help="side of the images (default: %(default)s)")
    line.add_argument("--sample", type=int, default=8, help="stand-alone files that are written (default: %(default)s)")
    line.add_argument("--run", type=Path, metavar="RUN_DIR", help="also time the export of this run folder")
    line.add_argument("--rounds", type=int, default=1, help="with --run: turns (default: %(default)s)")


def _add_serve(line: argparse.ArgumentParser) -> None:
    """Add the options of `bench serve`."""
    line.add_argument("--network", default="resnet20", help="a name of the catalogue (default: %(default)s)")
    line.add_argument("--pixels", type=int, default=32, help="side of the images (default: %(default)s)")
    line.add_argument("--rounds", type=int, default=5, help="turns (default: %(default)s)")
    line.add_argument("--requests", type=int, default=40, help="in every turn (default: %(default)s)")
    line.add_argument("--connections", type=int, default=3, help="at once, at batch 32 (default: %(default)s)")
    line.add_argument("--device", default="cpu", help="of onnxruntime: auto, cpu, cuda or cuda:N (default: %(default)s)")


def _add_help(line: argparse.ArgumentParser) -> None:
    """Add the options of `bench help`."""
    line.add_argument("--rounds", type=int, default=3, help="processes of every command (default: %(default)s)")


ADD_ARGUMENTS: Mapping[str, Callable[[argparse.ArgumentParser], None]] = {
    "step": _add_step,
    "sweep": _add_sweep,
    "edit": _add_edit,
    "export": _add_export,
    "serve": _add_serve,
    "help": _add_help,
}
"""Benchmark -> function that adds its options."""


def add_arguments(name: str, line: argparse.ArgumentParser) -> None:
    """Add the options of a benchmark; those of one that is a package of its own are where it is."""
    if name in ADD_ARGUMENTS:
        ADD_ARGUMENTS[name](line)
    else:
        importlib.import_module(f"stimcore.bench.{name}").add_arguments(line)
