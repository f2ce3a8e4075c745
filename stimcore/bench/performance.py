"""The page `docs/performance.md`, made from the JSON files that the benchmarks write into `docs/measurements`.

    python -m stimcore.bench NAME ... --json docs/measurements/NAME.json
    python -m stimcore.bench.performance

`docs/measurements/notes.toml` has the sentences that no benchmark can write: what keeps a row from its limit, and how the time
was looked for.

A row without a file, or whose file lacks the figure, is named as not measured: no figure stands on the page that no benchmark
wrote.
"""

import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stimcore import cli
from stimcore.bench.choices import SCALE_ALLOWED
from stimcore.bench.curves_svg import Curve, draw
from stimcore.bench.performance_rows import ROWS, Row, reports_of
from stimcore.errors import UsageError

FOLDER, PAGE = Path("docs/measurements"), Path("docs/performance.md")
IMAGES = Path("docs/images")
OTHER_PAGES = ("smoke",)
"""Files of `FOLDER` from which pages of their own are made."""
BUSY = 1.5
"""Processes that want to run, per core, from which on a machine counts as busy."""
HEAD = """# Performance

This page is made by `python -m stimcore.bench.performance` from what the benchmarks wrote into `docs/measurements`; change it
by measuring anew, not by hand. Every ratio compares what took turns in one run, so that what slows one of them slows the other.
Processor time is that of all threads together. A time that somebody waits for is no evidence when it was measured on a machine
that other work kept busy: such a row is undecided, whatever its figure.
"""


CURVES: Mapping[str, tuple[str, str]] = {
    "depth": ("Time of a node of the tree, by depth", "layers of the ResNet"),
    "family": ("Time of a node of the tree, by size of the family", "sub-networks"),
    "images": ("Time of a node of the tree, by evaluation images", "images"),
    "catalogue": ("Time to open a bundle, by size of the catalogue", "bundles"),
    "visitors": ("Time of the dashboard for one poll, by visitors who follow one measurement", "visitors"),
}
"""Curve of `bench scale`, and one of `bench page` -> title of its figure, and what its axis counts."""


def read_reports(folder: Path = FOLDER) -> dict[str, Mapping[str, Any]]:
    """Return the reports of the benchmarks by the names of their files, without those that have a page of their own."""
    paths = [path for path in sorted(folder.glob("*.json")) if path.stem not in OTHER_PAGES]
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


@dataclass(frozen=True)
class Notes:
    """Sentences beside the figures.

    Attributes:
        stops: Name of a row -> what keeps it from its limit; shown where it is above.
        profiles: Title -> how time was looked for, and where it was found.
    """

    stops: Mapping[str, str] = field(default_factory=dict)
    profiles: Mapping[str, str] = field(default_factory=dict)


def read_notes(folder: Path = FOLDER) -> Notes:
    """Return the sentences of `notes.toml`.

    Raises:
        UsageError: A sentence belongs to no row.
    """
    notes = Notes(**tomllib.loads((folder / "notes.toml").read_text(encoding="utf-8")))
    names = [row.name for row in ROWS]
    if unknown := sorted(set(notes.stops) - set(names)):
        raise UsageError(f"notes.toml has '{unknown[0]}'", allowed=", ".join(names))
    return notes


def render(reports: Mapping[str, Mapping[str, Any]], notes: Notes | None = None) -> str:
    """Return the page.

    Args:
        reports: Name of a file without `.json` -> what a benchmark wrote into it.
        notes: Sentences beside the figures.
    """
    notes = notes or Notes()
    lines = [HEAD, "| what | measured | limit | beside | outcome |", "| --- | ---: | ---: | --- | --- |"]
    lines += [_line(row, reports, notes) for row in ROWS]
    lines += _steps(reports)
    if "scale" in reports:
        lines += _growth(reports)
    if notes.profiles:
        lines += ["", "## Where the time goes"]
        for title, text in notes.profiles.items():
            lines += ["", f"### {title}", "", text.strip()]
    lines += ["", "## Runs", "", "| benchmark | machine | n | load | versions |", "| --- | --- | ---: | --- | --- |"]
    for name, report in reports.items():
        machine = report["machine"]
        keys = ("python", "torch", "mlserver", "torch_pruning", "commit")
        versions = ", ".join(f"{key} {machine[key]}" for key in keys if machine.get(key))
        place = f"{machine['cores']} cores of {machine['device']}"
        # of an export that is timed, turns; `n` are files whose bytes were counted
        number = report.get("run", {}).get("n", report["n"])
        file = "" if name == report.get("bench", name) else f" (`{name}.json`)"
        lines.append(f"| `bench {report.get('bench', name)}`{file} | {place} | {number} | {_load(report)} | {versions} |")
    return "\n".join(lines) + "\n"


def figures(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the figures of the page: name of a file -> SVG."""
    curves = _curves(reports)
    return {
        f"scale-{name}.svg": draw(
            Curve(
                title=title,
                x_name=axis,
                points=[(point["size"], point["unit_us"]) for point in curves[name]],
                allowed=SCALE_ALLOWED,
            )
        )
        for name, (title, axis) in CURVES.items()
        if curves.get(name)
    }


def _curves(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Sequence[Mapping[str, Any]]]:
    """Return the curves of all reports: name -> points."""
    curves: dict[str, Sequence[Mapping[str, Any]]] = dict(reports.get("scale", {}).get("curves", {}))
    if crowds := reports.get("page", {}).get("crowds"):
        curves["visitors"] = crowds
    return curves


def _steps(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the section about one training step of each network; empty where none was measured."""
    measured = sorted(reports_of("step", reports), key=lambda report: report["ratios"]["shared_prefix_over_floor"])
    if not measured:
        return []
    lines = ["", "## A training step, network by network", ""]
    lines += [
        "Processor time of a step on random images, in turns. The floor of a stimulative step is counted: the multiply-adds of",
        "the main network and of what the drawn sub-network does not share with it, over those of the main network.",
        "",
        "| network | images | n | common over the better plain loop | stimulative over its floor | floor "
        "| stimulative over common | without a shared prefix |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for report in measured:
        ratios, means = report["ratios"], report["mean_ratios"]
        values = (ratios["common_over_best_plain"], ratios["shared_prefix_over_floor"], ratios["floor"], means["shared_prefix"])
        cells = " | ".join(f"{value:.3f}" for value in (*values, means["two_forward"]))
        images = f"{report['batch_size']} of {report['pixels']} px"
        lines.append(f"| {report['network']} | {images} | {report['n']} | {cells} |")
    return lines


def _growth(reports: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the section about how cost grows."""
    report = reports["scale"]
    lines = ["", "## How cost grows", ""]
    lines += [
        "Every point is a process of its own. Values are processor time of a node and image, or of a bundle, over the smallest",
        "of the curve; the dashed line is the limit. Networks have random weights, and their images are so small (a side of",
        f"{report['pixels']} pixels) that what a node costs beside its operations weighs more than in a network of use.",
    ]
    if report.get("quick"):
        lines += ["", "**Tiny sizes (`--quick`): whether everything runs, no figures to quote.**"]
    for name in figures(reports):
        title, _ = CURVES[name.removeprefix("scale-").removesuffix(".svg")]
        lines += ["", f"![{title}](images/{name})"]
    lines += ["", "| grows | size | nodes | processor time | a node and image, a bundle, or a poll | largest memory |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    for name, curve in _curves(reports).items():
        for point in curve:
            unit, nodes = point["unit_us"], f"{point['nodes']:,}" if "nodes" in point else ""
            each = f"{unit:.1f} us" if unit < 1000 else f"{unit / 1000:.1f} ms"
            seconds = f"{point['seconds']:.1f} s" if "seconds" in point else f"{100 * point['core_share']:.0f} % of a core"
            memory = f"{point['peak_mb']:.0f} MB" if "peak_mb" in point else ""
            lines.append(f"| {name} | {point['size']:,} | {nodes} | {seconds} | {each} | {memory} |")
    return lines


def _line(row: Row, reports: Mapping[str, Mapping[str, Any]], notes: Notes) -> str:
    value = row.value(reports)
    limit = f"{row.limit:g}{row.unit}"
    if value is None:
        command = f"python -m stimcore.bench {row.bench} {row.options}".rstrip()
        return f"| {row.what} | | {limit} | {row.beside} | not measured: `{command}` |"
    if row.waited and reports[row.report].get("load", 0.0) >= BUSY:
        outcome = "undecided: the machine was busy"
    else:
        outcome = "reached" if value <= row.limit else f"**not reached.** {notes.stops.get(row.name, '')}".rstrip()
    shown = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"| {row.what} | {shown}{row.unit} | {limit} | {row.beside} | {outcome} |"


def _load(report: Mapping[str, Any]) -> str:
    """Return how busy the machine was: processes that wanted to run, per core."""
    load = report.get("load")
    if load is None:
        return "not stated"
    word = "idle" if load < BUSY else "shared with other work"
    return f"{word}: {load:.1f} processes a core"


def main(folder: Path = FOLDER, page: Path = PAGE, images: Path = IMAGES) -> None:
    """Write the page and its figures."""
    reports = read_reports(folder)
    page.write_text(render(reports, read_notes(folder)), encoding="utf-8")
    for name, text in figures(reports).items():
        (images / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
    sys.exit(cli.DONE)
