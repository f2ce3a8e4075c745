"""Recipes: complete, honest, and the paper's own where they say so."""

import dataclasses
import json

import pytest

from stimcore.data.sources import DATASETS
from stimcore.errors import UsageError
from stimcore.methods.table import METHODS, make
from stimcore.recipes import recipe as recipes
from stimcore.recipes.recipe import EXPECTED, PAPER, RECIPES, UNKNOWN, Recipe, expected, recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_complete_and_survives_a_round_trip(name):
    found = recipe(name)
    assert found.name == name and found.dataset in DATASETS
    assert Recipe.from_dict(json.loads(json.dumps(found.to_dict()))).to_dict() == found.to_dict()
    for method, options in found.options.items():
        make(method, options)
    for method in METHODS:
        make(method, found.options.get(method, {}))


def test_the_papers_settings_of_appendix_c2_and_f2():
    mobile = recipe("mobilenetv3-cifar100")
    assert (mobile.epochs, mobile.batch_size, mobile.learning_rate, mobile.schedule) == (500, 64, 0.05, "cosine")
    assert (mobile.weight_decay, mobile.momentum, mobile.nesterov) == (3e-5, 0.9, False)
    assert mobile.options["stimulative"] == {"weight": 10.0} and mobile.label == PAPER
    assert recipe("mobilenetv3-cifar10").options["stimulative"] == {"weight": 5.0}
    dense = recipe("densenet264-cifar100")
    assert (dense.epochs, dense.batch_size, dense.learning_rate, dense.decay) == (200, 128, 0.1, 0.2)
    assert (dense.milestones, dense.weight_decay, dense.nesterov) == ((60, 120, 160), 5e-4, True)
    assert make("stimulative", recipe("resnet50-imagenet-plus").options["stimulative"]).max_skipped == (0, 1, 3, 0)
    assert all(recipe(name).label_smoothing == 0 for name in RECIPES)


def test_what_is_refused():
    with pytest.raises(UsageError, match="there is no recipe 'resnet'; allowed: resnet20-fashion, "):
        recipe("resnet")
    good = recipe("resnet20-fashion")
    for change, sentence in (
        ({"schedule": "linear"}, "schedule 'linear' in recipe resnet20-fashion; allowed: cosine, step, one_cycle"),
        ({"augmentation": "cutmix"}, "augmentation 'cutmix'"),
        ({"precision": "fp8"}, "precision 'fp8'"),
        ({"label": "mine"}, "label 'mine'"),
        ({"epochs": 0}, "epochs 0 in recipe resnet20-fashion; allowed: 1 and more"),
        ({"batch_size": 0}, "batch_size 0"),
    ):
        with pytest.raises(UsageError, match=sentence):
            dataclasses.replace(good, **change)
    with pytest.raises(UsageError, match="differs in the keys dropout"):
        Recipe.from_dict(good.to_dict() | {"dropout": 0.5})


def test_the_list_says_cost_and_accuracy_or_that_they_are_not_measured(capsys):
    assert recipes.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in RECIPES:
        line = next(line for line in lines if line.split()[0] == name)
        for part in (recipe(name).label, expected(name).two_cores, expected(name).gpu, expected(name).accuracy):
            assert part in line
    assert UNKNOWN in lines[2]
    assert set(EXPECTED) <= set(RECIPES)


def test_the_list_as_json(capsys):
    assert recipes.main(["list", "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(RECIPES)
    assert set(rows[0]["expected"]) == {"two_cores", "gpu", "accuracy"}
