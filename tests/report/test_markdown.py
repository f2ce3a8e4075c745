"""docs/results.md: what it holds, and what it keeps of experiments that are not here."""

import shutil
from pathlib import Path

from stimcore.report import markdown
from stimcore.report.__main__ import main
from tests.report import folders


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
    assert "| common | 90.00 [87.98, 91.71] | 77.39 |" in parts["made"]


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
    assert "This experiment does not measure: main, all-mean" in part
    assert "best of six" not in markdown.parts(text)["Summary"]


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


def test_a_changed_number_changes_the_page(made: Path, tmp_path: Path) -> None:
    target = tmp_path / "results.md"
    main([str(made), "--markdown", str(target)])
    before = target.read_text()
    shutil.rmtree(made / "common")
    folders.bundle(made, "common", 901)
    main([str(made), "--markdown", str(target)])
    assert target.read_text() != before


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
