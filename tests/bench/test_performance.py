"""docs/performance.md is what its generator makes of the committed measurements, and says what was not measured."""

from pathlib import Path

import pytest

from stimcore.bench.__main__ import BENCHES
from stimcore.bench.performance import FOLDER, PAGE, ROWS, read_reports, render
from tests.golden import golden_text

ROOT = Path(__file__).parents[2]
MACHINE = {"device": "a processor", "cores": 2, "python": "3.11.7", "commit": "abc"}


@pytest.mark.golden
def test_the_page_is_made_from_the_committed_measurements() -> None:
    text = render(read_reports(ROOT / FOLDER))
    assert golden_text(ROOT / PAGE, text) == text


def test_every_row_is_measured_by_a_benchmark() -> None:
    assert {row.bench for row in ROWS} <= set(BENCHES)


def test_a_figure_above_its_limit_is_said_with_what_stops_it() -> None:
    report = {"machine": MACHINE, "n": 3, "load": 0.5, "ratios": {"batch1_over_bare": 2.5, "json32_over_bare": 0.5}}
    page = render({"serve": report})
    one = next(line for line in page.splitlines() if "over HTTP, one image" in line)
    assert "| 2.5 | 1.3 |" in one
    assert "**not reached.** A request passes" in one
    assert "| 0.5 | 1 |" in page
    assert "| reached |" in page
    assert "idle: 0.5 processes a core" in page


def test_a_time_that_was_measured_on_a_busy_machine_decides_nothing() -> None:
    ratios = {"batch1_over_bare": 0.5, "export_over_limit": 0.9}
    page = render({name: {"machine": MACHINE, "n": 3, "load": 9.0, "ratios": ratios} for name in ("serve", "export")})
    assert "shared with other work: 9.0 processes a core" in page
    (waited,) = [line for line in page.splitlines() if "over HTTP, one image" in line]
    assert waited.endswith("| undecided: the machine was busy |")
    (processor_time,) = [line for line in page.splitlines() if line.startswith("| export of")]
    assert processor_time.endswith("| reached |")


def test_what_was_not_measured_has_no_figure() -> None:
    rows = [line for line in render({}).splitlines() if "not measured" in line]
    assert len(rows) == len(ROWS)
    assert all("| |" in row for row in rows)


def test_the_largest_value_of_an_object_counts() -> None:
    report = {"machine": MACHINE, "n": 1, "seconds": {"train": 0.1, "bench": 0.5}, "megabytes": {"train": 20.0}}
    page = render({"help": report})
    assert "| 0.5 s | 0.4 s |" in page
    assert "| 20 MB | 100 MB |" in page
    assert "| not stated |" in page
