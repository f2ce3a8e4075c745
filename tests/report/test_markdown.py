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
    assert "than with common training. | not measured | holds, within noise |" in parts["Summary"]
    assert "| common | 90.00 [87.98, 91.71] | 77.39 |" in parts["made"]


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
