"""docs/results.md: what it holds, and what it keeps of experiments that are not here."""

import re
import shutil
from pathlib import Path

import pytest

from stimcore.errors import UsageError
from stimcore.report import markdown
from stimcore.report.__main__ import main
from stimcore.report.markdown import render_results
from stimcore.report.report import build_report
from stimcore.report.results import read_experiment
from tests.analysis.made import FULL
from tests.report import folders
from tests.report.conftest import ORDERED


def test_claims_and_tables_of_every_experiment(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "results.md"
    assert main([str(made.parent), "--markdown", str(target)]) == 0
    parts = markdown.parts(target.read_text())
    assert list(parts) == ["Summary", "made", "made-lambda"]
    assert "| main | **holds, within noise** | stimulative 91.00%" in parts["made"]
    assert "| claim | criterion | made | made-lambda |" in parts["Summary"]
    assert "than with common training. | – | holds, within noise |" in parts["Summary"]
    papers, ours = parts["Summary"].split("**What we add**")
    assert "| loafing |" in papers
    assert "| one later block deleted |" in ours
    assert "one later block deleted" not in papers
    sentence = "stimulative minus common training: main network +1.00 points [-1.58, 3.59], mean of all ordered"
    assert sentence in parts["made"]
    assert f"- **made**: {sentence}" in parts["Summary"]
    assert (
        "Stimulative training closes 97.4% of the gap between the main network and this mean." in parts["made"]
    )  # 10 of 1,000 remain of 3,500 / 9
    assert "### Which ingredient closes the gap" in parts["made"]
    assert "### Table r4" not in parts["made"]  # the report has it


def test_the_summary_says_what_closes_the_gap(made: Path, tmp_path: Path) -> None:
    folders.bundle(made, "stochastic_depth", 900, sweeps={"ordered": dict.fromkeys(ORDERED, 880) | {FULL: 900}})
    target = tmp_path / "results.md"
    main([str(made), "--markdown", str(target)])
    # 160 / 9 of 1,000 remain of 3,500 / 9
    assert "and this mean; other runs: stochastic depth 95.4%." in markdown.parts(target.read_text())["Summary"]


def test_claims_are_listed_where_they_apply(made: Path, tmp_path: Path) -> None:
    """An experiment over lambda has no row for every claim that it never meant to measure."""
    target = tmp_path / "results.md"
    assert main([str(made.parent), "--markdown", str(target)]) == 0
    text = target.read_text()
    assert (
        "not measured"
        not in text.replace("*not measured", "").split("## made-lambda")[0].split("## Summary")[1].split("###")[0]
    )
    part = markdown.parts(text)["made-lambda"]
    assert "| lambda | **holds, within noise**" in part
    assert "| loafing |" not in part
    assert "best of six" not in markdown.parts(text)["Summary"]


def test_the_file_stays_short(made: Path, tmp_path: Path) -> None:
    """One experiment takes about a page, however many sub-networks it has."""
    target = tmp_path / "results.md"
    main([str(made), "--markdown", str(target)])
    assert len(target.read_text().splitlines()) < 110
    assert max(map(len, target.read_text().splitlines())) < 1000
    long = "; ".join(f"{number} deleted: 0.20 (0.10 to 0.30)" for number in range(40))
    assert len(markdown.shortened(long)) <= markdown.MOST_CHARACTERS + 3
    assert markdown.shortened(long).endswith("; ...")
    assert markdown.shortened("word " * 200).endswith("word ...")


def test_writing_twice_changes_nothing(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "results.md"
    main([str(made.parent), "--markdown", str(target)])
    before = target.read_text()
    main([str(made.parent), "--markdown", str(target)])
    assert target.read_text() == before


def test_what_is_not_here_is_kept(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "results.md"
    main([str(made.parent), "--markdown", str(target)])
    before = target.read_text()
    shutil.rmtree(made)
    main([str(made.parent), "--markdown", str(target)])
    assert target.read_text() == before


def test_what_is_gone_is_named_and_can_be_dropped(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "results.md"
    lambdas = made.with_name("made-lambda")
    main([str(made.parent), "--markdown", str(target)])
    before = target.read_text()
    with pytest.raises(UsageError, match=r"has no part to drop for made; allowed: made-lambda\."):
        main([str(made), "--markdown", str(target), "--forget", "made"])
    with pytest.raises(UsageError, match="--forget without --markdown"):
        main([str(made), "--out", str(tmp_path), "--forget", "made-lambda"])
    assert target.read_text() == before
    shutil.rmtree(lambdas)
    capsys.readouterr()
    main([str(made), "--markdown", str(target)])
    assert "not among the experiments: made-lambda (--forget NAME drops one)" in capsys.readouterr().out
    main([str(made), "--markdown", str(target), "--forget", "made-lambda"])
    assert list(markdown.parts(target.read_text())) == ["Summary", "made"]
    assert "made-lambda" not in target.read_text()
    assert "kept as they were" not in capsys.readouterr().out


def test_a_changed_number_changes_the_page(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "results.md"
    main([str(made), "--markdown", str(target)])
    before = target.read_text()
    shutil.rmtree(made / "common")
    folders.bundle(made, "common", 901)
    main([str(made), "--markdown", str(target)])
    assert target.read_text() != before


def test_a_name_of_a_folder_breaks_neither_table_nor_heading(made: Path) -> None:
    odd = Path(shutil.copytree(made, made.with_name("a | b\nc")))
    text = render_results([build_report(read_experiment(odd))])
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## Summary", "## a | b c"]
    rows = [line for line in text.partition("## a")[0].splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}


def test_cells_cannot_break_a_table(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "results.md"
    main([str(made), "--markdown", str(target)])
    block: list[str] = []
    for line in [*target.read_text().splitlines(), ""]:
        if line.startswith("|"):
            block.append(line)
        elif block:
            columns = {row.replace("\\|", "").count("|") for row in block}
            assert len(columns) == 1, block
            assert len(block) > 2, block
            block = []
