"""Names from outside are shown as they are: no page makes Markdown or a formula of them, no CSV file a formula."""

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from stimcore.analysis.estimates import Estimate
from stimcore.bundle import Bundle, open_bundle, open_experiment
from stimcore.figures.numbers import figure_csv
from stimcore.report.section import Column, Table, table_csv
from tests.app.test_views import finished, visitor

HOSTILE = "![x](http-evil) *b* $x$ :red[y] `z` <i>"
"""A picture, emphasis, a formula, a colour, code and HTML in one name."""
RENDERED = (
    "markdown",
    "caption",
    "info",
    "warning",
    "error",
    "success",
    "subheader",
    "title",
    "button",
    "metric",
    "slider",
    "table",
)
"""Elements of a page whose text or label Streamlit reads as Markdown."""


@pytest.fixture(scope="module")
def hostile(small: list[Bundle], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of experiments with such names: of an experiment, a data set, a method, a label and all classes."""
    folder = tmp_path_factory.mktemp("hostile") / "exported"
    experiment = folder / HOSTILE.replace("/", "")
    shutil.copytree(small[0].path.parent, experiment)
    (experiment / "common").rename(experiment / f"common {HOSTILE}")
    path = experiment / "experiment.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    value["classes"] = [f"{HOSTILE} {number}" for number in range(len(value["classes"]))]
    value["dataset"] = value["topology"]["network"] = HOSTILE
    path.write_text(json.dumps(value), encoding="utf-8")
    for manifest in experiment.glob("*/manifest.json"):
        value = json.loads(manifest.read_text(encoding="utf-8"))
        value["experiment_sha256"], value["label"] = open_experiment(experiment).sha256, HOSTILE
        manifest.write_text(json.dumps(value), encoding="utf-8")
        open_bundle(manifest.parent)
    return folder


def texts(at: AppTest) -> Iterator[str]:
    """Everything on a page that is read as Markdown, with what `plain` and `code` have made harmless taken out."""
    for kind in RENDERED:
        for element in at.get(kind):
            values = [getattr(element, "label", ""), getattr(element, "value", "")]
            if kind == "table":
                frame: Any = getattr(element, "value", None)
                values = [*map(str, frame.columns), *(str(cell) for row in frame.to_numpy() for cell in row)]
            for value in values:
                yield re.sub(r"(?P<fence>`+).*?(?P=fence)(?!`)", "", str(value)) if "python -m" in str(value) else str(value)


VIEWS = ["views/break_it.py", "views/subnetworks.py", "views/train.py", "views/use_it.py", "views/damage.py"]


@pytest.mark.slow
def test_no_page_renders_a_name(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = finished(visitor(hostile, monkeypatch).run())
    seen = 0
    for view in VIEWS:
        at.switch_page(view).run()
        assert not at.exception
        for text in texts(at):
            bare = re.sub(r"\\.", "", text)
            assert not re.search(r"!\[x|\*b\*|\$x\$|:red\[|`z`|<i>", bare), f"{view}: {text}"
            seen += r"\*b\*" in text
    assert seen >= len(VIEWS), "the names are shown, escaped"


FORMULAS = ["=1+1", "+1+cmd", "-2+3", "@SUM(A1)", "\tx"]


@pytest.mark.parametrize("name", FORMULAS)
def test_no_csv_file_holds_a_formula(name: str) -> None:
    titles = {"xaxis": {"title": name}, "yaxis": {"title": name}}
    points = go.Figure(go.Scatter(name=name, x=[name, 1], y=[-1.5, 2], text=["label", name]), titles)
    cells_of_map = go.Figure(go.Heatmap(name=name, x=[name], y=[name], z=[[-2.5]]), titles)
    table = Table("t", "T", [Column("network"), Column(name)], [(name, -1.5), (name, Estimate(-1.0, -2.0, 0.5))])
    files = (figure_csv(points), figure_csv(cells_of_map), table_csv(table))
    rows = [row for text in files for row in csv.reader(io.StringIO(text, newline=""))]
    cells = [cell for row in rows for cell in row]
    assert cells.count(f"'{name}") >= 13, "names, labels and titles"
    assert {"-1.5", "-2.5", "-2"} <= set(cells), "numbers stay numbers"
    for cell in cells:
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")) or float(cell) < 0
