"""docs/lesson.md: every number of the lesson plan and its worksheet is that of the committed bundles; its claims hold."""

import functools
import re
from pathlib import Path

import pytest

from stimcore.analysis.result import Result
from stimcore.bundle import open_bundle
from stimcore.subnets.families import KINDS
from tests.golden import REWRITE

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "lesson.md"
EXPERIMENT = ROOT / "exported" / "resnet20-fashion"
MARKED = re.compile(r"(?P<number>[0-9.]+)<!-- (?P<method>[\w-]+) (?P<spec>\S+) (?P<unit>hundred|pct) -->")
BARE = re.compile(r"(?<![\w.-])[0-9]+\.[0-9]+(?![\w-])")
"""A number with a decimal point that nothing checks."""

pytestmark = pytest.mark.skipif(not EXPERIMENT.is_dir(), reason="exported/resnet20-fashion is not in this checkout")


@functools.cache
def stored(method: str) -> dict[str, Result]:
    """Return every stored result of a method by the long form of its spec, and the whole network as `main`."""
    bundle = open_bundle(EXPERIMENT / method, verify=False)
    results: dict[str, Result] = {}
    for kind in KINDS:
        if (sweep := bundle.sweep(kind)) is not None:
            results |= {row["spec"]: Result.from_dict(row) for row in sweep["results"]}
            results["main"] = Result.from_dict(sweep["main"])
    return results


def shown(match: re.Match[str]) -> str:
    """Return the number as it has to stand in the page."""
    return f"{stored(match['method'])[match['spec']].accuracy_pct:.{0 if match['unit'] == 'hundred' else 1}f}"


@pytest.mark.golden
def test_every_number_is_that_of_the_bundles() -> None:
    text = PAGE.read_text(encoding="utf-8")
    corrected = MARKED.sub(lambda match: match[0].replace(match["number"], shown(match), 1), text)
    if REWRITE:
        PAGE.write_text(corrected, encoding="utf-8")
    assert len(MARKED.findall(text)) >= 20
    assert corrected == PAGE.read_text(encoding="utf-8")
    assert BARE.findall(MARKED.sub("", text)) == []


def test_what_the_lesson_teaches_holds_in_the_bundles() -> None:
    common, stimulative = ({spec: r.accuracy_pct for spec, r in stored(m).items()} for m in ("common", "stimulative"))
    assert abs(common["main"] - stimulative["main"]) < 2, "whole, both do well"
    assert stimulative["1.4.7"] - common["1.4.7"] > 20, "without 2, 3, 5, 6, 8, 9 they differ"
    for spec in ("1-2.4-5-6.7-8-9", "1-2-3.4-5.7-8-9", "1-2-3.4-5-6.7-8"):
        assert common["main"] - common[spec] < 5, "a single block costs little"
        assert stimulative["main"] - stimulative[spec] < 5
    assert common["1-2-3.4-5-6.7"] < common["1.4-5-6.7-8-9"] - 5, "common training needs its last stage more"
    assert common["1.4.7"] > 10, "better than guessing among ten classes"
    any_block = {spec: result.accuracy_pct for spec, result in stored("stimulative-deletions").items()}
    without_first = "2-3.4-5-6.7-8-9"
    assert max(common[without_first], stimulative[without_first]) < any_block[without_first] - 5, "both copies suffer"


def test_the_worksheet_fits_a_page_and_every_question_has_an_answer() -> None:
    text = PAGE.read_text(encoding="utf-8")
    worksheet, answers = text.split("## Worksheet")[1].split("## Answers")
    numbers = re.compile(r"^([0-9])\. ", re.MULTILINE)
    assert numbers.findall(worksheet) == numbers.findall(answers.split("## What students ask")[0]) == list("12345678")
    assert len(worksheet.strip().splitlines()) <= 40
    assert not MARKED.search(worksheet), "no answer stands on the worksheet"
