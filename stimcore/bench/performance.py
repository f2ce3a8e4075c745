"""The page `docs/performance.md`, made from the JSON files that the benchmarks write into `docs/measurements`.

    python -m stimcore.bench NAME ... --json docs/measurements/NAME.json
    python -m stimcore.bench.performance

A row without a file, or whose file lacks the figure, is named as not measured: no figure stands on the page that no benchmark
wrote.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stimcore import cli

FOLDER, PAGE = Path("docs/measurements"), Path("docs/performance.md")
BUSY = 1.5
"""Processes that want to run, per core, from which on a machine counts as busy."""
HEAD = """# Performance

This page is made by `python -m stimcore.bench.performance` from what the benchmarks wrote into `docs/measurements`; change it
by measuring anew, not by hand. Every ratio compares what took turns in one run, so that what slows one of them slows the other.
Processor time is that of all threads together. A time that somebody waits for is no evidence when it was measured on a machine
that other work kept busy: such a row is undecided, whatever its figure.
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure and its limit.

    Attributes:
        bench: Benchmark that measures it; its file is `BENCH.json`.
        what: What is measured.
        key: Where its report has the figure: the name of an object, and a key in it. A name alone stands for the largest value
            of the object.
        limit: Largest value that is aimed at.
        unit: Unit of both; empty for a ratio.
        beside: What the figure is compared with.
        waited: Whether it is time that somebody waits, in which other work of the machine counts; else it is processor time,
            memory or a count.
        stops: What keeps it from its limit, where it is above.
    """

    bench: str
    what: str
    key: Sequence[str]
    limit: float
    unit: str = ""
    beside: str = ""
    waited: bool = False
    stops: str = ""

    def value(self, reports: Mapping[str, Mapping[str, Any]]) -> float | None:
        """Return the figure; None where it was not measured."""
        value: Any = reports.get(self.bench)
        for key in self.key:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, Mapping):
            return max(value.values(), default=None)
        return None if value is None else float(value)


_TWO_PROCESSES = (
    "A request passes access control, limits, statistics and the log of the front process, and a pipe to the worker process "
    "and back; the bare server has none of them, and one process."
)
ROWS = (
    Row(
        bench="export",
        what="export of 27 networks on 10,000 images, processor time",
        key=("ratios", "export_over_limit"),
        limit=1,
        beside="twice the ordered sweep of the same bundle and 0.2 s a file",
    ),
    Row(
        bench="help",
        what="`--help` of the sub-commands of `stimcore`, the slowest, processor time",
        key=("seconds",),
        limit=0.4,
        unit=" s",
    ),
    Row(bench="help", what="the same, the largest", key=("megabytes",), limit=100, unit=" MB"),
    Row(
        bench="serve",
        waited=True,
        what="inference over HTTP, one image",
        key=("ratios", "batch1_over_bare"),
        limit=1.3,
        beside="bare starlette, uvicorn and onnxruntime",
        stops=_TWO_PROCESSES,
    ),
    Row(
        bench="serve",
        waited=True,
        what="the same, 32 images as bytes",
        key=("ratios", "batch32_over_bare"),
        limit=1.05,
        beside="the same bare server",
        stops=_TWO_PROCESSES,
    ),
    Row(
        bench="serve",
        waited=True,
        what="the same, 32 images as JSON",
        key=("ratios", "json32_over_bare"),
        limit=1,
        beside="the same bare server, which reads JSON with the standard library",
    ),
    Row(
        bench="serve",
        waited=True,
        what="the same, 8 clients with one image each, time per request",
        key=("ratios", "clients8_over_bare"),
        limit=1.25,
        beside="the same bare server",
        stops=_TWO_PROCESSES,
    ),
    Row(
        bench="step",
        what="common training step",
        key=("ratios", "common_over_best_plain"),
        limit=1,
        beside="the better of two plain loops of torch",
    ),
    Row(
        bench="step",
        what="stimulative training step",
        key=("ratios", "shared_prefix_over_floor"),
        limit=1.03,
        beside="operations counted along the drawn sub-networks",
    ),
    Row(
        bench="edit",
        waited=True,
        what="first of all ordered numbers after a cold start",
        key=("seconds", "first_of_all_cold"),
        limit=0.5,
        unit=" s",
    ),
    Row(
        bench="edit",
        waited=True,
        what="an edit to its first number, median over blocks",
        key=("ratios", "edit_first_over_main"),
        limit=0.2,
        beside="the main network on all images",
    ),
    Row(
        bench="edit",
        waited=True,
        what="an edit to its first number, worst block",
        key=("ratios", "worst_edit_first_over_main"),
        limit=0.4,
        beside="the main network on all images",
    ),
)
"""What a person waits for, in the order of the page."""


def read_reports(folder: Path = FOLDER) -> dict[str, Mapping[str, Any]]:
    """Return the reports of the benchmarks by the names of their files."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def render(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page.

    Args:
        reports: Benchmark -> what it wrote.
    """
    lines = [HEAD, "| what | measured | limit | beside | outcome |", "| --- | ---: | ---: | --- | --- |"]
    lines += [_line(row, reports) for row in ROWS]
    lines += ["", "## Runs", "", "| benchmark | machine | n | load | versions |", "| --- | --- | ---: | --- | --- |"]
    for name, report in reports.items():
        machine = report["machine"]
        versions = ", ".join(f"{key} {machine[key]}" for key in ("python", "torch", "commit") if machine.get(key))
        place = f"{machine['cores']} cores of {machine['device']}"
        # of an export that is timed, turns; `n` are files whose bytes were counted
        number = report.get("run", {}).get("n", report["n"])
        lines.append(f"| `bench {name}` | {place} | {number} | {_load(report)} | {versions} |")
    return "\n".join(lines) + "\n"


def _line(row: Row, reports: Mapping[str, Mapping[str, Any]]) -> str:
    value = row.value(reports)
    limit = f"{row.limit:g}{row.unit}"
    if value is None:
        return f"| {row.what} | | {limit} | {row.beside} | not measured: `python -m stimcore.bench {row.bench}` |"
    if row.waited and reports[row.bench].get("load", 0.0) >= BUSY:
        outcome = "undecided: the machine was busy"
    else:
        outcome = "reached" if value <= row.limit else f"**not reached.** {row.stops}".rstrip()
    return f"| {row.what} | {value:.3g}{row.unit} | {limit} | {row.beside} | {outcome} |"


def _load(report: Mapping[str, Any]) -> str:
    """Return how busy the machine was: processes that wanted to run, per core."""
    load = report.get("load")
    if load is None:
        return "not stated"
    word = "idle" if load < BUSY else "shared with other work"
    return f"{word}: {load:.1f} processes a core"


def main(folder: Path = FOLDER, page: Path = PAGE) -> None:
    """Write the page."""
    page.write_text(render(read_reports(folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
    sys.exit(cli.DONE)
