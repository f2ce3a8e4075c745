"""`python -m stimcore.bench step|...`: run one benchmark and print its ratios."""

import contextlib
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from stimcore import cli
from stimcore.bench.arguments import ADD_ARGUMENTS

BENCHES: Mapping[str, str] = {
    "step": "One training step: stimulative with and without a shared prefix, over common training, in time and peak memory.",
    "sweep": "All ordered sub-networks: one by one in torch and in onnxruntime, the tree of prefixes, and its floor.",
    "edit": "Waiting times in the dashboard: the first estimate after a cold start, and the numbers after one edit.",
    "export": "Bytes and time of all ordered sub-networks: with one shared file of weights, and as stand-alone files.",
    "serve": "Inference through HTTP beside a direct call of onnxruntime and a bare server: one image, 32 images, 8 clients.",
    "scale": "How cost grows: depth of the network, evaluation images, size of the family, and bundles of the catalogue.",
    "help": "What --help of every command costs, in processor time and memory.",
    "page": "Dashboard and published page in Chromium, beside an empty Streamlit page; 30 visitors, and a lecture of 120.",
    "compress": "Small networks of one time: trained alone, pruned and fine-tuned, or cut out of a stimulated network.",
    "smoke": "Do recipes learn? 200 steps of each recipe with each method on real images, cross entropy against guessing.",
    "gpu": "Everything that is promised for a GPU, in one run: correctness first, then figures.",
}
"""Module with `Settings` and `run(settings) -> report` -> what it measures; `arguments.py` has its options.

A benchmark of several modules is a package, whose module `suite` has these. One that prints more than ratios also has
`show(report) -> exit code`. Only the one that is asked for is imported: each needs other packages, and `bench gpu` runs where
most of them are missing.
"""


def load(name: str) -> ModuleType:
    """Return the module of a benchmark."""
    module = importlib.import_module(f"stimcore.bench.{name}")
    return importlib.import_module(f"{module.__name__}.suite") if hasattr(module, "__path__") else module


def parser(wanted: str | None = None) -> cli.Parser:
    """Return the command line.

    Args:
        wanted: The benchmark whose options are added; all of them when None.
    """
    line = cli.Parser(
        prog="python -m stimcore.bench", description="Measure, interleaved in one process; print ratios of medians."
    )
    benches = line.add_subparsers(dest="bench", required=True, metavar="BENCH", parser_class=cli.Parser)
    for name, summary in BENCHES.items():
        one = benches.add_parser(name, help=summary, description=summary)
        if wanted in (None, name):
            ADD_ARGUMENTS[name](one)
        cli.add_json(one, "write the numbers as JSON")
    return line


def main(argv: Sequence[str]) -> int:
    """Run one benchmark and return the exit code."""
    options = vars(parser(argv[0] if argv else "").parse_args(argv))
    module, target = load(options.pop("bench")), options.pop("json")
    # before it begins: its own processes are no other work
    busy = round(os.getloadavg()[0] / (os.cpu_count() or 1), 2) if hasattr(os, "getloadavg") else None  # not on Windows
    # standard output is for the JSON where it is asked for there; the exit code is the same
    with contextlib.redirect_stdout(sys.stderr) if target == "-" else contextlib.nullcontext():
        report = module.run(module.Settings(**options))
        if busy is not None:
            report["load"] = busy
        code: int = getattr(module, "show", _show)(report)
    cli.write_report(target, report)
    return code


def _show(report: Mapping[str, Any]) -> int:
    """Print ratios and seconds; return the exit code."""
    for kind in ("ratios", "seconds"):
        for name, value in report.get(kind, {}).items():
            print(f"{kind:8} {name:24} {value:10.4f}")
    print(f"n = {report['n']}, {report['network']}, {report['machine'].get('device', '')}")
    return 0


if __name__ == "__main__":
    cli.run(main)
