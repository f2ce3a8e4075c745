"""What a person waits for: the figures of `docs/performance.md`, their limits, and where the benchmarks wrote them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stimcore.bench.choices import PAGE_TARGETS_MS, SCALE_ALLOWED, SCALE_MOST_MB, WATCHED_SHARE


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
        values = [_figure(report, self.key) for report in reports_of(self.bench, reports)]
        return max((value for value in values if value is not None), default=None)


def _figure(report: Any, path: Sequence[str]) -> float | None:
    """Return what stands at a place of a report, the largest of an object; None where there is nothing."""
    value = report
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping):
        return max(value.values(), default=None)
    return None if value is None else float(value)


def reports_of(bench: str, reports: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
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
