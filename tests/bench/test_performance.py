"""docs/performance.md is what its generator makes of the committed measurements, and says what was not measured."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from stimcore.bench.__main__ import BENCHES
from stimcore.bench.performance import CURVES, FOLDER, IMAGES, PAGE, Notes, figures, read_notes, read_reports, render
from stimcore.bench.performance_rows import ROWS
from stimcore.errors import UsageError
from tests.golden import golden_text

ROOT = Path(__file__).parents[2]
MACHINE = {"device": "a processor", "cores": 2, "python": "3.11.7", "commit": "abc"}


@pytest.mark.golden
def test_the_page_is_made_from_the_committed_measurements() -> None:
    reports = read_reports(ROOT / FOLDER)
    text = render(reports, read_notes(ROOT / FOLDER))
    assert golden_text(ROOT / PAGE, text) == text
    for name, figure in figures(reports).items():
        assert golden_text(ROOT / IMAGES / name, figure) == figure


def test_every_row_is_measured_by_a_benchmark() -> None:
    assert {row.bench for row in ROWS} <= set(BENCHES)
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_a_figure_above_its_limit_is_said_with_what_stops_it() -> None:
    report = {"machine": MACHINE, "n": 3, "load": 0.5, "ratios": {"batch1_over_bare": 2.5, "json32_over_mlserver": 0.5}}
    page = render({"serve": report}, Notes(stops={"http_batch1_over_bare": "A request passes two pipes."}))
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
    (waited,) = [line for line in page.splitlines() if "over HTTP, one image |" in line]
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


def test_a_note_that_belongs_to_no_row_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.toml").write_text('[stops]\nno_row = "Nothing."\n', encoding="utf-8")
    with pytest.raises(UsageError, match="'no_row'; allowed: export, "):
        read_notes(tmp_path)


def test_a_second_file_of_a_benchmark_has_rows_of_its_own() -> None:
    report = {"bench": "edit", "machine": MACHINE, "n": 3, "load": 0.1, "seconds": {"first_of_all_cold": 1.25}}
    page = render({"edit-mobilenetv3": report})
    assert "| the same, MobileNetV3's 144 | 1.25 s | 1.5 s |" in page
    assert "| `bench edit` (`edit-mobilenetv3.json`) |" in page
    (other,) = [line for line in page.splitlines() if "a cold start, ResNet-20" in line]
    assert other.endswith("| not measured: `python -m stimcore.bench edit` |")


def step_report(network: str, common: float, stimulative: float) -> dict[str, object]:
    ratios = {"common_over_best_plain": common, "shared_prefix_over_floor": stimulative, "floor": 1.25}
    means = {"shared_prefix": 1.25 * stimulative, "two_forward": 1.7}
    return {
        "bench": "step",
        "network": network,
        "machine": MACHINE,
        "n": 20,
        "batch_size": 128,
        "pixels": 32,
        "ratios": ratios,
        "mean_ratios": means,
    }


def test_the_row_of_a_step_has_the_largest_figure_of_all_networks() -> None:
    reports = {"step": step_report("resnet32", 0.99, 1.02), "step-vit-tiny": step_report("vit-tiny", 0.97, 1.04)}
    page = render(reports, Notes(stops={"step_stimulative": "Sorting."}))
    assert "the largest of all networks | 0.99 | 1 | the better of two plain loops of torch | reached |" in page
    assert "the largest of all networks | 1.04 | 1.03 |" in page
    assert "**not reached.** Sorting." in page
    assert "| vit-tiny | 128 of 32 px | 20 | 0.970 | 1.040 | 1.250 | 1.300 | 1.700 |" in page
    assert page.index("| resnet32 |") < page.index("| vit-tiny |")
    assert "| `bench step` (`step-vit-tiny.json`) |" in page


def test_curves_are_drawn_the_same_way_every_time() -> None:
    points = [{"size": 10, "unit_us": 8.0}, {"size": 100, "unit_us": 10.0}]
    reports = {"scale": {"curves": {name: points for name in CURVES}}}
    drawn = figures(reports)
    assert set(drawn) == {f"scale-{name}.svg" for name in CURVES}
    assert drawn == figures(reports)
    for text in drawn.values():
        places = [
            float(circle.get("cy", "")) for circle in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}circle")
        ]
        assert places[1] < places[0]  # the larger value is higher, which is less in SVG
        assert ">1.25<" in text
    assert figures({}) == {}
