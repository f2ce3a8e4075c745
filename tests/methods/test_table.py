"""Values of options: what the table of methods accepts, and the one form in which a run stores them."""

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

import pytest

from stimcore.errors import UsageError
from stimcore.methods.stimulative import Stimulative
from stimcore.methods.table import METHODS, make, restore, stored_options
from stimcore.train.__main__ import parse_options
from stimcore.train.arguments import parser


def test_words_and_truth_values_are_options_too() -> None:
    options = {"sample": "deletions+permutations", "target": "labels", "sandwich": True}
    assert make("stimulative", options) == Stimulative(sample="deletions+permutations", target="labels", sandwich=True)


@pytest.mark.parametrize(
    ("name", "option", "value", "sentence"),
    [
        ("stimulative", "sample", 1, "sample=1 for stimulative; allowed: a word"),
        ("stimulative", "sample", "random", "sample=random; allowed: ordered, deletions, deletions.permutations"),
        ("stimulative", "target", True, "target=True for stimulative; allowed: a word"),
        ("stimulative", "target", "teacher", "target=teacher; allowed: main, labels"),
        ("stimulative", "sandwich", 1, "sandwich=1 for stimulative; allowed: true or false"),
        ("self_distillation", "feature", 2.0, "feature=2.0 for self_distillation; allowed: a word"),
        ("self_distillation", "feature", "pixel", "feature=pixel; allowed: batch, image"),
    ],
)
def test_other_values_are_refused(name: str, option: str, value: object, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        make(name, {option: value})


def fields_of(*annotations: Any) -> list[tuple[str, str]]:
    """Return the method and name of every option with one of these types."""
    types = {name: typing.get_type_hints(kind) for name, kind in METHODS.items()}
    return [
        (name, field.name)
        for name, kind in METHODS.items()
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]  # every method is a dataclass
        if types[name][field.name] in annotations
    ]


@pytest.mark.parametrize(("name", "option"), fields_of(float, float | None))
def test_a_whole_number_is_stored_as_the_float_that_it_stands_for(name: str, option: str) -> None:
    """`--option weight=5` and `--lambda 5` are one setting: runs that differ in the form only would count as two methods."""
    stored = [json.dumps(dataclasses.asdict(make(name, {option: value}))) for value in (1, 1.0)]  # type: ignore[call-overload]  # every method is a dataclass
    assert stored[0] == stored[1]


@pytest.mark.parametrize(("name", "option"), fields_of(tuple[int, ...] | None, tuple[int, ...]))
@pytest.mark.parametrize("text", ["1", "1,"])
def test_a_single_number_is_the_tuple_of_a_network_with_one_stage(name: str, option: str, text: str) -> None:
    assert getattr(make(name, parse_options([f"{option}={text}"])), option) == (1,)
    assert getattr(make(name, {option: [1]}), option) == (1,)


@pytest.mark.parametrize("text", [",", "1,,2", "1.5", "true", "one", "1,one", ""])
def test_what_is_no_tuple_of_whole_numbers_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="allowed: numbers between commas, one per stage"):
        make("stimulative", parse_options([f"max_skipped={text}"]))


def test_lambda_and_the_option_weight_make_one_method() -> None:
    weights = parser().parse_args(["resnet20-fashion", "--method", "stimulative", "--lambda", "5"]).weights
    assert [repr(make("stimulative", {"weight": weights[0]}))] == [repr(make("stimulative", parse_options(["weight=5"])))]
    with pytest.raises(UsageError, match="a lambda of inf; allowed: 0 and more"):
        make("stimulative", {"weight": 10**400})


@pytest.mark.parametrize("name", METHODS)
def test_a_run_of_today_has_the_options_of_the_committed_ones(name: str, fashion: Path) -> None:
    committed = json.loads((fashion / name / "manifest.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(stored_options(make(name, {})))) == committed["options"]  # or no two of them would compare


def test_an_option_that_came_later_is_stored_where_it_is_set() -> None:
    method = make("stimulative", {"weight": 10, "divide_by_classes": True})
    assert restore("stimulative", stored_options(method)) == method
    assert restore("stimulative", stored_options(make("stimulative", {}))) == make("stimulative", {})
