"""The options of the benchmarks, apart from what they measure: `--help` needs none of the packages that a benchmark does."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from stimcore import cli
from stimcore.bench.choices import GPU_PARTS
from stimcore.engine.budget import Budget
from stimcore.methods.names import METHOD_CLASSES
from stimcore.recipes.catalogue import RECIPES
from stimcore.train.choices import SMOKE_STEPS


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
    line.add_argument(
        "--mlserver", type=Path, metavar="PYTHON", help="of an environment with mlserver and onnxruntime, to compare"
    )
    line.add_argument("--connections", type=int, default=3, help="at once, at batch 32 (default: %(default)s)")
    line.add_argument("--device", default="cpu", help="of onnxruntime: auto, cpu, cuda or cuda:N (default: %(default)s)")


def _add_scale(line: argparse.ArgumentParser) -> None:
    """Add the options of `bench scale`."""
    line.add_argument("--rounds", type=int, default=1, help="processes of every point; the least counts (default: %(default)s)")
    line.add_argument("--quick", action="store_true", help="tiny sizes: whether everything runs, no figures to quote")


def _add_help(line: argparse.ArgumentParser) -> None:
    """Add the options of `bench help`."""
    line.add_argument("--rounds", type=int, default=3, help="processes of every command (default: %(default)s)")


def _add_page(line: argparse.ArgumentParser) -> None:
    """Add the options of `bench page`."""
    line.add_argument("--app", type=Path, default=Path("app/main.py"), metavar="FILE", help="dashboard (default: %(default)s)")
    line.add_argument("--exported", type=Path, default=Path("exported"), metavar="DIR", help="bundles (default: %(default)s)")
    line.add_argument("--experiment", default="resnet20-fashion", help="a ResNet-20 with both methods (default: %(default)s)")
    line.add_argument("--rounds", type=int, default=20, help="of each duration, at most 31 (default: %(default)s)")
    line.add_argument("--visitors", type=int, default=30, help="who follow one measurement (default: %(default)s)")
    line.add_argument("--lecture", type=int, default=120, help="visitors who join one after the other (default: %(default)s)")
    line.add_argument("--join-s", type=float, default=60.0, help="seconds in which they join (default: %(default)s)")


def _add_smoke(line: argparse.ArgumentParser) -> None:
    """Add the options of `bench smoke`."""
    line.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=["resnet20-fashion"], metavar="RECIPE")
    line.add_argument("--methods", nargs="+", choices=list(METHOD_CLASSES), default=["common", "stimulative"], metavar="METHOD")
    line.add_argument("--steps", type=int, default=SMOKE_STEPS, metavar="N", help="steps of each run (default: %(default)s)")
    line.add_argument(
        "--keep",
        type=cli.output_file,
        metavar="FILE",
        help="add every finished run to this file, and don't repeat those that it holds",
    )


def _add_gpu(line: argparse.ArgumentParser) -> None:
    """Add the options of `bench gpu`."""
    line.add_argument("--device", default="cuda", help="cuda or cuda:N; cpu to see that the parts work (default: %(default)s)")
    line.add_argument("--quick", action="store_true", help="tiny sizes: whether everything runs, no figures to quote")
    line.add_argument(
        "--exported", type=Path, default=Path("exported"), metavar="DIR", help="committed experiments (default: %(default)s)"
    )
    line.add_argument("--markdown", type=cli.output_file, metavar="FILE", help="also write the page that docs/gpu.md is")
    names = ", ".join(name for name, *_ in GPU_PARTS)
    line.add_argument("--only", nargs="+", metavar="PART", help=f"run these parts: {names}")


def _add_compress(line: argparse.ArgumentParser) -> None:
    """Add the options of `bench compress`."""
    line.add_argument("--work", type=cli.output_folder, required=True, metavar="DIR", help="where every finished step is kept")
    line.add_argument("--runs", type=Path, metavar="DIR", help="finished trainings to use, in DIR/EXPERIMENT/NAME-SEED")
    line.add_argument("--seeds", type=cli.seed, nargs="+", default=[0, 1, 2], metavar="SEED", help="(default: 0 1 2)")
    line.add_argument(
        "--sizes",
        nargs="+",
        metavar="SPEC",
        help="ordered sub-networks (default: those whose times are nearest to 0.8, 0.6 and 0.4 of the main network's)",
    )
    line.add_argument("--epochs", type=int, default=10, help="of each fine-tuning (default: %(default)s)")
    line.add_argument(
        "--learning-rate", type=float, default=0.01, metavar="RATE", help="peak rate of each fine-tuning (default: %(default)s)"
    )
    line.add_argument("--turns", type=int, default=60, help="of every network that is timed (default: %(default)s)")
    line.add_argument(
        "--torch-pruning",
        type=Path,
        metavar="PYTHON",
        help="of an environment with torch and torch-pruning; pruned networks are left out without",
    )
    cli.add_data_root(line)
    line.add_argument("--quick", action="store_true", help="tiny sizes: whether everything runs, no figures to quote")


ADD_ARGUMENTS: Mapping[str, Callable[[argparse.ArgumentParser], None]] = {
    "step": _add_step,
    "sweep": _add_sweep,
    "edit": _add_edit,
    "export": _add_export,
    "serve": _add_serve,
    "scale": _add_scale,
    "help": _add_help,
    "page": _add_page,
    "compress": _add_compress,
    "smoke": _add_smoke,
    "gpu": _add_gpu,
}
"""Benchmark -> function that adds its options."""
