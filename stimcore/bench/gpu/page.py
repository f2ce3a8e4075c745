"""The page `docs/gpu.md`, made from the JSON of a run."""

from collections.abc import Mapping
from typing import Any

HEAD = """# On a GPU

This page is made by `make gpu` from what it measured; change it by running that command on a machine with a GPU, not by hand.
"""
NOTHING = """
**Nothing here was ever run on a GPU.** The code that is for one is written and tested as far as a processor can:

- every graph that a GPU measures batch norms with runs on the processor and counts the same, on every committed experiment;
- a training step launches nothing that makes the processor wait for a GPU, for every method, and its tensors stay on the device
  that they are sent to, for every method and kind of network (seen on torch's `meta` device, whose tensors have no numbers);
- a GPU that is missing, broken, without its libraries or full leads to the processor and to one sentence on why (with faked
  failures);
- `python -m stimcore.bench gpu --device cpu --quick` runs every part of `make gpu` on the processor. With torch 2.11 and
  torchvision 0.26 too, which is older than what `make setup` installs (2026-11-28, Python 3.11): all parts where the packages
  of `requirements.txt` are installed, the training parts where there is nothing besides torch, torchvision and what they need.

`make gpu` takes at most 8 minutes on a machine with an NVIDIA GPU, needs `python3` with torch and no network, checks
correctness first and measures then. Parts whose packages are missing are skipped by name.
"""


def render(report: Mapping[str, Any] | None) -> str:
    """Return the page.

    Args:
        report: What `bench gpu` wrote; None where it was never run.
    """
    if report is None:
        return HEAD + NOTHING
    machine = report["machine"]
    kind = "" if report["device_type"] == "cuda" else " **This was a processor, not a GPU.**"
    quick = " Tiny sizes (`--quick`): the figures say nothing." if report["quick"] else ""
    lines = [
        HEAD,
        f"Run on {report['date']} on {machine['device']} in {report['minutes']} minutes.{kind}{quick}",
        "",
        ", ".join(
            f"{name} {machine[name]}"
            for name in ("driver", "cuda", "cudnn", "torch", "onnxruntime", "python", "commit")
            if name in machine
        )
        + ".",
        "",
        "| part | outcome | figures |",
        "| --- | --- | --- |",
        *(_row(part) for part in report["parts"].values()),
        "",
    ]
    return "\n".join(lines)


def _row(part: Mapping[str, Any]) -> str:
    if "skipped" in part:
        return f"| {part['title']} | not run: {part['skipped']} | |"
    word = {True: "right", False: "**wrong**", None: "measured"}[part["passed"]]
    figures = "; ".join(f"{name} {value:.4g}" for name, value in part["figures"].items())
    return f"| {part['title']} | {word} | {'. '.join(text for text in (figures, part['detail']) if text)} |"
