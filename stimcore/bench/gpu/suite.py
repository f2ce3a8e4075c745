"""Everything that is promised for a GPU, in one run: correctness first, then figures.

The parts run one after the other within a time, and tell what came out.
"""

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
from stimcore.bench.choices import GPU_PARTS
from stimcore.bench.gpu.page import render
from stimcore.bench.gpu.part import FULL, QUICK, Outcome, Part, Sizes
from stimcore.bundle.opening import experiment_folders
from stimcore.errors import UsageError
from stimcore.runs.machine import describe, flush_denormals, pick_device

LIMIT_S = 450.0
"""Time after which no further part begins, so that the whole run ends within 8 minutes."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is run; the options of the command say what each field is."""

    device: str
    quick: bool
    exported: Path
    markdown: Path | None
    only: list[str] | None


@flush_denormals()
def run(settings: Settings) -> dict[str, Any]:
    """Run the parts, and return the report.

    Raises:
        UsageError: There is no GPU, or no such part.
    """
    known = [name for name, *_ in GPU_PARTS]
    if wrong := [name for name in settings.only or [] if name not in known]:
        raise UsageError(f"there is no part '{wrong[0]}'", allowed=", ".join(known))
    if settings.device != "cpu" and not torch.cuda.is_available():
        raise UsageError(
            "bench gpu on a machine without a GPU that torch can use",
            allowed="a machine with an NVIDIA GPU; --device cpu --quick shows that the parts work",
        )
    device = pick_device(settings.device)
    experiments = tuple(map(str, experiment_folders(settings.exported)))
    sizes = dataclasses.replace(QUICK if settings.quick else FULL, experiments=experiments)
    begun = time.monotonic()
    parts: dict[str, Any] = {}
    for name, title, module, function in GPU_PARTS:
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
        settings.markdown.parent.mkdir(parents=True, exist_ok=True)
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
