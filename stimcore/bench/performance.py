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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stimcore import cli
from stimcore.bench.choices import PAGE_TARGETS_MS, SCALE_ALLOWED, SCALE_MOST_MB, WATCHED_SHARE
from stimcore.bench.curves_svg import Curve, draw
from stimcore.errors import UsageError

FOLDER, PAGE = Path("docs/measurements"), Path("docs/performance.md")
IMAGES = Path("docs/images")
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
        name: Key of the sentence in `notes.toml` that says what keeps it from its limit.
        bench: Benchmark that measures it; its file is `BENCH.json`.
        file: Name of the file without `.json` where it is another one.
        options: Of the benchmark, for this row.
        what: What is measured.
        key: Where its report has the figure: the name of an object, and a key in it. A name alone stands for the largest value
            of the object.
        limit: Largest value that is aimed at.
        unit: Unit of both; empty for a ratio.
        beside: What the figure is compared with.
        waited: Whether it is time that somebody waits, in which other work of the machine counts; else it is processor time,
            memory or a count.
        every: Whether the figure is the largest in all files of the benchmark, one of which is `BENCH.json`.
    """

    name: str
    bench: str
    what: str
    key: Sequence[str]
    limit: float
    unit: str = ""
    beside: str = ""
    waited: bool = False
    file: str = ""
    options: str = ""
    every: bool = False

    @property
    def report(self) -> str:
        """Name of the file that has the figure."""
        return self.file or self.bench

    def value(self, reports: Mapping[str, Mapping[str, Any]]) -> float | None:
        """Return the figure; None where it was not measured."""
        if not self.every:
            return _figure(reports.get(self.report), self.key)
        values = [_figure(report, self.key) for report in _reports_of(self.bench, reports)]
        return max((value for value in values if value is not None), default=None)


def _figure(report: Any, path: Sequence[str]) -> float | None:
    """Return what stands at a place of a report, the largest of an object; None where there is nothing."""
    value = report
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping):
        return max(value.values(), default=None)
    return None if value is None else float(value)


def _reports_of(bench: str, reports: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return what one benchmark wrote, into however many files."""
    return [report for name, report in reports.items() if report.get("bench", name) == bench]


def _http(name: str, what: str, limit: float, beside: str = "the same bare server") -> tuple[Row, Row]:
    """Return two rows of an inference: the time that a client waits, and the processor time of the server."""
    row = Row(
        name=f"http_{name}",
        bench="serve",
        what=what,
        key=("ratios", name),
        limit=limit,
        beside=beside,
        waited=True,
        options="--mlserver PYTHON" if name.endswith("mlserver") else "",
    )
    processor = replace(
        row,
        name=f"{row.name}_processor",
        what=f"{what}, processor time",
        key=("ratios", f"{name}_processor"),
        waited=False,
    )
    return row, processor


def _page(name: str, what: str) -> Row:
    """Return a row of the dashboard: the 95th percentile of a duration."""
    limit = PAGE_TARGETS_MS[name]
    return Row(name=f"page_{name}", bench="page", what=what, key=("p95_ms", name), limit=limit, unit=" ms", waited=True)


def _scale(curve: str, what: str) -> Row:
    """Return a row of how cost grows: the largest over the smallest time along a curve."""
    return Row(
        name=f"scale_{curve}",
        bench="scale",
        what=what,
        key=("ratios", f"{curve}_time"),
        limit=SCALE_ALLOWED,
        beside="largest over smallest along the curve",
    )


_MOBILENET = "edit-mobilenetv3"
ROWS = (
    Row(
        name="export",
        bench="export",
        what="export of 27 networks on 10,000 images, processor time",
        key=("ratios", "export_over_limit"),
        limit=1,
        beside="twice the ordered sweep of the same bundle and 0.2 s a file",
        options="--run RUN_DIR",
    ),
    Row(
        name="help_time",
        bench="help",
        what="`--help` of the sub-commands of `stimcore`, the slowest, processor time",
        key=("seconds",),
        limit=0.4,
        unit=" s",
    ),
    Row(name="help_memory", bench="help", what="the same, the largest", key=("megabytes",), limit=100, unit=" MB"),
    *_http("batch1_over_bare", "inference over HTTP, one image", 1.3, "bare starlette, uvicorn and onnxruntime"),
    *_http("batch32_over_bare", "the same, 32 images as bytes", 1.05),
    *_http("clients8_over_bare", "the same, 8 clients with one image each, time per request", 1.25),
    *_http("json1_over_mlserver", "the same, one image as JSON", 1, "MLServer on the same file"),
    *_http("json32_over_mlserver", "the same, 32 images as JSON", 1, "MLServer on the same file"),
    *_http("json_clients8_over_mlserver", "the same, 8 clients with one image each as JSON", 1, "MLServer on the same file"),
    Row(
        name="step_common",
        bench="step",
        every=True,
        options="--network NAME",
        what="common training step, the largest of all networks",
        key=("ratios", "common_over_best_plain"),
        limit=1,
        beside="the better of two plain loops of torch",
    ),
    Row(
        name="step_stimulative",
        bench="step",
        every=True,
        options="--network NAME",
        what="stimulative training step, the largest of all networks",
        key=("ratios", "shared_prefix_over_floor"),
        limit=1.03,
        beside="operations counted along the drawn sub-networks",
    ),
    Row(
        name="cold_start",
        bench="edit",
        waited=True,
        what="first of all ordered numbers after a cold start, ResNet-20",
        key=("seconds", "first_of_all_cold"),
        limit=0.5,
        unit=" s",
    ),
    Row(
        name="cold_start_mobilenetv3",
        bench="edit",
        file=_MOBILENET,
        options="--bundle exported/mobilenetv3-fashion/common",
        waited=True,
        what="the same, MobileNetV3's 144",
        key=("seconds", "first_of_all_cold"),
        limit=1.5,
        unit=" s",
    ),
    Row(
        name="edit_first",
        bench="edit",
        waited=True,
        what="an edit to its first number, median over blocks",
        key=("ratios", "edit_first_over_main"),
        limit=0.2,
        beside="the main network on all images",
    ),
    Row(
        name="edit_first_worst",
        bench="edit",
        waited=True,
        what="an edit to its first number, worst block",
        key=("ratios", "worst_edit_first_over_main"),
        limit=0.4,
        beside="the main network on all images",
    ),
    _page("first_visit_over_empty", "dashboard: first visit to its first number, beyond an empty Streamlit page"),
    _page("shared_link_over_empty", "dashboard: a shared link to its number, beyond an empty Streamlit page"),
    _page("click_to_picture", "dashboard: a click to the changed picture"),
    _page("wall_after_stored_number", "dashboard: the wall of answers after a stored number"),
    _page("click_to_first_number", "dashboard: a click to the first number of a state nobody asked for"),
    _page("wall_after_measured_number", "dashboard: the wall of answers after a measured number"),
    _page("poll_of_visitors", "dashboard: a poll, 30 visitors who follow one measurement"),
    _page("story_of_lecture", "dashboard: the story, for each of 120 visitors who join within a minute"),
    Row(
        name="page_watched_server",
        bench="page",
        what="model server: 30 visitors who watch a run in progress, share of a core",
        key=("watched_server",),
        limit=WATCHED_SHARE,
    ),
    _page("published_first_view_on_a_phone", "published page: first view on a slow phone"),
    _scale("depth", "time of a node of the tree, ResNet-20 to ResNet-110"),
    _scale("family", "the same, families of 27 to 9,261 sub-networks"),
    _scale("images", "the same, 1,000 to 10,000 images"),
    _scale("catalogue", "opening a bundle when the server starts, catalogues of 10 to 1,000"),
    Row(
        name="scale_memory",
        bench="scale",
        what="memory that an evaluation adds to a worker that may keep 1 GiB, the largest family",
        key=("megabytes", "family"),
        limit=SCALE_MOST_MB,
        unit=" MB",
    ),
)
"""What a person waits for, in the order of the page."""
CURVES: Mapping[str, tuple[str, str]] = {
    "depth": ("Time of a node of the tree, by depth", "layers of the ResNet"),
    "family": ("Time of a node of the tree, by size of the family", "sub-networks"),
    "images": ("Time of a node of the tree, by evaluation images", "images"),
    "catalogue": ("Time to open a bundle, by size of the catalogue", "bundles"),
    "visitors": ("Time of the dashboard for one poll, by visitors who follow one measurement", "visitors"),
}
"""Curve of `bench scale`, and one of `bench page` -> title of its figure, and what its axis counts."""


def read_reports(folder: Path = FOLDER) -> dict[str, Mapping[str, Any]]:
    """Return the reports of the benchmarks by the names of their files."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


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
    measured = sorted(_reports_of("step", reports), key=lambda report: report["ratios"]["shared_prefix_over_floor"])
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
