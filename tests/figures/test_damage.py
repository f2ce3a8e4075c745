"""Figures of damage: drops with their intervals and ranges, and no mark where nothing was swept."""

import csv
import io
import re
from typing import Any

import pytest

from app.views.damage import first_blocks_note
from stimcore.analysis.spreads import Spread, deletion_curve, permutation_curve, single_deletions
from stimcore.figures import damage
from stimcore.figures.damage import MethodDamage
from stimcore.figures.numbers import INTERVAL, figure_csv
from stimcore.figures.style import STYLES
from stimcore.web.words import LANGUAGES, words_of
from tests.analysis.made import FULL, SIX, result, sweep

DELETE = sweep({"1-3.4-5-6": 850, "1-2.4-5-6": 800, "1.4-5-6": 500}, FULL, 900, kind="delete")
PERMUTE = sweep({"2-1-3.4-5-6": 890}, FULL, 900, kind="permute")


def rows_of(figure: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(figure_csv(figure))))


def made(method: str, *, delete: bool = True, permute: bool = False) -> MethodDamage:
    return MethodDamage(
        STYLES[method],
        singles=single_deletions(SIX, DELETE) if delete else (),
        deletions=deletion_curve(SIX, DELETE) if delete else (),
        permutations=permutation_curve(PERMUTE) if permute else (),
    )


def test_single_deletions_have_intervals_locks_and_an_outline() -> None:
    figure = damage.single_deletions_figure([made("common")], 6, locked=[4], chosen=3)
    (bars,) = figure.data
    assert list(bars.x) == [2, 3]
    assert list(bars.y) == pytest.approx([5.0, 10.0])
    assert figure.layout.xaxis.ticktext[3] == "4 🔒"
    assert list(bars.marker.line.width) == [0, 3]
    low, high = result("1", 850, main=900).drop_interval_pct
    assert list(rows_of(figure)[0]) == ["series", "deleted block", "points lost", *INTERVAL]
    assert [rows_of(figure)[0][end] for end in INTERVAL] == [f"{low:.6g}", f"{high:.6g}"], "without the noise of floating point"


def test_first_blocks_stand_apart_and_hatched() -> None:
    figure = damage.single_deletions_figure([made("common"), made("stimulative")], 6, locked=[4], firsts=[2])
    later, _, first, _ = figure.data
    assert list(later.x) == [3]
    assert list(first.x) == ["2"]
    assert (later.xaxis, first.xaxis, first.yaxis) == ("x", "x2", "y2")
    assert (first.marker.pattern.shape, first.marker.pattern.fgcolor) == ("x", STYLES["common"].color)
    assert list(first.customdata) == [2]
    assert [trace.showlegend for trace in figure.data] == [None, None, False, False]
    assert {row["deleted block"] for row in rows_of(figure)} == {"2", "3"}


def test_the_note_on_first_blocks_says_what_only_they_have() -> None:
    """Bars of other blocks are hatched where their method has a dashed line: place and axis tell first blocks from them."""
    figure = damage.single_deletions_figure([made("common"), made("stimulative")], 6, locked=[4], firsts=[2])
    assert any(bars.marker.pattern.shape for bars in figure.data if bars.yaxis == "y")
    assert re.match("At the right, cross-hatched and with an axis of its own: block 2, ", first_blocks_note([2]))
    texts = [words_of(code).say("damage.hatched", blocks="2") for code in LANGUAGES]
    assert [text for text in texts if re.match("Hatched|Schraffiert|Hachuré|Rayado|斜线", text)] == []


def test_curves_show_median_and_range() -> None:
    spreads = [Spread(1, 3, 0.0, 2.0, 5.0, result("1.4", 1)), Spread(2, 1, 7.0, 7.0, 7.0, result("1.4", 1))]
    figure = damage.damage_curve([(STYLES["stimulative"], spreads)], damage.DELETED)
    band, line = figure.data
    assert list(band.y) == [5.0, 7.0, 7.0, 0.0]
    assert list(line.y) == [2.0, 7.0]
    assert [(row["smallest"], row["largest"]) for row in rows_of(figure)] == [("0.0", "5.0"), ("7.0", "7.0")]


def test_many_methods_have_no_bands() -> None:
    spreads = deletion_curve(SIX, DELETE)
    figure = damage.damage_curve([(style, spreads) for style in STYLES.values()], damage.DELETED)
    assert len(figure.data) == len(STYLES)


def test_panels_hold_bars_and_curves_and_name_a_method_once() -> None:
    bars, band, line = damage.damage_panels([made("common")], 6).data
    assert list(bars.x) == [2, 3]
    assert list(line.y) == pytest.approx([7.5, 40])
    assert [trace.showlegend for trace in (bars, band, line)] == [True, False, False]
    assert [trace.yaxis for trace in (bars, band, line)] == ["y", "y2", "y2"]


def test_what_was_not_swept_has_no_mark_and_the_method_still_a_name() -> None:
    band, line = damage.damage_panels([made("stimulative", delete=False, permute=True)], 6).data
    assert line.showlegend
    assert list(line.y) == pytest.approx([1.0])
    assert band.yaxis == line.yaxis == "y3"
    assert not damage.damage_panels([made("stimulative", delete=False)], 6).data
