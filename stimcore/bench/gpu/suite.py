"""Run the parts one after the other within a time, and tell what came out."""

import argparse
import dataclasses
import importlib
import platform
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stimcore import files
from stimcore.bench.gpu.page import render
from stimcore.bench.gpu.part import FULL, QUICK, Outcome, Part, Sizes
from stimcore.errors import UsageError
from stimcore.runs.machine import describe, flush_denormals, pick_device

LIMIT_S = 450.0
"""Time after which no further part begins, so that the whole run ends within 8 minutes."""
PARTS: tuple[tuple[str, str, str, str], ...] = (
    ("golden curves", "Losses of 20 steps of every method equal the processor's", "training", "golden_curves"),
    ("resume", "A run that was interrupted goes on as if it had not been", "training", "resume"),
    ("engine counts", "Sub-networks classify every image as on the processor", "engine", "engine_counts"),
    ("exported files", "Exported files give the processor's logits", "engine", "exported_files"),
    ("steps", "A stimulative step over a common one", "training", "steps"),
    ("throughput", "Training beside a plain loop of torch", "training", "throughput"),
    ("sweep", "All ordered sub-networks: the tree beside one by one", "engine", "sweeps"),
    ("edit", "From an edit to its first number, and to all images", "engine", "edits"),
    ("inference", "Inference through HTTP beside a direct call", "engine", "inference"),
)
"""Name, title, module and function of every part, in the order in which they run: correctness before figures."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is run; the options of the command say what each field is."""

    device: str
    quick: bool
    exported: Path
    markdown: Path | None
    only: list[str] | None


def add_arguments(line: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    line.add_argument("--device", default="cuda", help="cuda or cuda:N; cpu to see that the parts work (default: %(default)s)")
    line.add_argument("--quick", action="store_true", help="tiny sizes: whether everything runs, no figures to quote")
    line.add_argument(
        "--exported", type=Path, default=Path("exported"), metavar="DIR", help="committed experiments (default: %(default)s)"
    )
    line.add_argument("--markdown", type=Path, metavar="FILE", help="also write the page that docs/gpu.md is")
    line.add_argument("--only", nargs="+", metavar="PART", help="run these parts: " + ", ".join(part[0] for part in PARTS))


@flush_denormals()
def run(settings: Settings) -> dict[str, Any]:
    """Run the parts, and return the report.

    Raises:
        UsageError: There is no GPU, or no such part.
    """
    known = [name for name, *_ in PARTS]
    if wrong := [name for name in settings.only or [] if name not in known]:
        raise UsageError(f"there is no part '{wrong[0]}'", allowed=", ".join(known))
    if settings.device != "cpu" and not torch.cuda.is_available():
        raise UsageError(
            "bench gpu on a machine without a GPU that torch can use",
            allowed="a machine with an NVIDIA GPU; --device cpu --quick shows that the parts work",
        )
    device = pick_device(settings.device)
    experiments = tuple(str(path.parent) for path in sorted(settings.exported.glob("*/experiment.json")))
    sizes = dataclasses.replace(QUICK if settings.quick else FULL, experiments=experiments)
    begun = time.monotonic()
    parts: dict[str, Any] = {}
    for name, title, module, function in PARTS:
        if settings.only and name not in settings.only:
            continue
        start = time.monotonic()
        entry = {"title": title} | _outcome(name, module, function, device, sizes, begun)
        parts[name] = entry | {"seconds": round(time.monotonic() - start, 1)}
        print(f"{name}: {_in_words(entry)} ({parts[name]['seconds']} s)", flush=True)
    report = {
        "bench": "gpu",
        "network": "several",
        "machine": describe(device) | _driver(),
        "n": 1,
        "quick": settings.quick,
        "device_type": device.type,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "minutes": round((time.monotonic() - begun) / 60, 1),
        "parts": parts,
    }
    if settings.markdown is not None:
        files.write_text(settings.markdown, render(report))
    return report


def _outcome(name: str, module: str, function: str, device: torch.device, sizes: Sizes, begun: float) -> dict[str, Any]:
    """Run one part; what keeps it from running becomes its outcome, so that the other parts run."""
    if time.monotonic() - begun > LIMIT_S:
        return {"skipped": "no time was left"}
    try:
        work = getattr(importlib.import_module(f"stimcore.bench.gpu.{module}"), function)
    except ImportError as reason:
        return {"skipped": f"needs {reason.name or reason}, which is not installed"}
    try:
        outcome: Outcome = Part(name, "", work).work(device, sizes)
    except Exception as reason:  # one part that breaks must not take the figures of the others
        sentence = " ".join(str(reason).split())[:300]
        return {"passed": False, "figures": {}, "detail": f"{type(reason).__name__}: {sentence}"}
    return outcome.to_dict()


def _in_words(entry: dict[str, Any]) -> str:
    if "skipped" in entry:
        return f"skipped, {entry['skipped']}"
    return {True: "passed", False: "FAILED", None: "measured"}[entry["passed"]]


def _driver() -> dict[str, str]:
    """Return the versions of the driver, of CUDA, cuDNN and onnxruntime, where they are there."""
    versions = {"system": platform.platform(), "cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}  # type: ignore[no-untyped-call]  # torch has no annotation there
    try:
        versions["onnxruntime"] = str(importlib.import_module("onnxruntime").__version__)
    except ImportError:
        versions["onnxruntime"] = "not installed"
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, timeout=30)
        versions["driver"] = done.stdout.strip().splitlines()[0] if done.stdout.strip() else "unknown"
    return versions


def show(report: dict[str, Any]) -> int:
    """Print the table; return the exit code: 1 where something was wrong."""
    print(render(report))
    return 1 if any(part.get("passed") is False for part in report["parts"].values()) else 0
