"""Values of options: what the table of methods accepts as words and truth values."""

import pytest

from stimcore.errors import UsageError
from stimcore.methods.stimulative import Stimulative
from stimcore.methods.table import make


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
