"""Recipes: complete, read back unchanged, and with the paper's settings where their label is the paper's."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from stimcore.analysis.paper import TABLE_R1
from stimcore.data.sources import DATASETS
from stimcore.errors import UsageError
from stimcore.methods.stimulative import Stimulative
from stimcore.methods.table import METHODS, make
from stimcore.nets.catalogue import build
from stimcore.recipes import __main__ as recipes
from stimcore.recipes.catalogue import ALIASES, EXPECTED, FINE_TUNING, RECIPES, UNKNOWN, expected, recipe
from stimcore.recipes.recipe import PAPER, REDUCED, Recipe
from stimcore.train.watch import watched


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_complete_and_survives_a_round_trip(name: str) -> None:
    plan = recipe(name)
    assert plan.name == name
    assert plan.dataset.partition("@")[0] in DATASETS
    assert Recipe.from_dict(json.loads(json.dumps(plan.to_dict()))).to_dict() == plan.to_dict()
    for method, options in plan.options.items():
        make(method, options)
    for method in METHODS:
        make(method, plan.options.get(method, {}))


def test_the_papers_settings_of_appendix_c2_and_f2() -> None:
    mobile = recipe("mobilenetv3-cifar100")
    assert (mobile.epochs, mobile.batch_size, mobile.learning_rate, mobile.schedule) == (500, 64, 0.05, "cosine")
    assert (mobile.weight_decay, mobile.momentum, mobile.nesterov) == (3e-5, 0.9, False)
    assert mobile.options["stimulative"] == {"weight": 10.0, "divide_by_classes": True}
    assert mobile.label == PAPER
    assert recipe("mobilenetv3-cifar10").options["stimulative"] == {"weight": 5.0, "divide_by_classes": True}
    dense = recipe("densenet264-cifar100")
    assert (dense.epochs, dense.batch_size, dense.learning_rate, dense.decay) == (200, 128, 0.1, 0.2)
    assert (dense.milestones, dense.weight_decay, dense.nesterov) == ((60, 120, 160), 5e-4, True)
    assert {recipe(f"{name}-cifar100").dataset for name in ("mobilenetv3", "resnet50")} == {"cifar100@224"}
    small = recipe("mobilenetv3-cifar100-32px")
    assert (small.dataset, small.label, small.options) == ("cifar100", REDUCED, mobile.options)
    assert recipe("resnet50-cifar100").label != PAPER  # the appendix gives its lambda, time and memory only
    plus = make("stimulative", recipe("resnet50-imagenet-plus").options["stimulative"])
    assert isinstance(plus, Stimulative)
    assert plus.max_skipped == (0, 1, 3, 0)
    assert all(recipe(name).label_smoothing == 0 for name in RECIPES)


def test_what_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no recipe 'resnet'; allowed: resnet20-fashion, "):
        recipe("resnet")
    good = recipe("resnet20-fashion")
    change: dict[str, Any]
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
    for key in ("train_per_class", "evaluate_every", "watch_every", "watch_images"):
        change = {key: 0}
        with pytest.raises(UsageError, match=f"{key} 0 in recipe resnet20-fashion; allowed: 1 and more"):
            dataclasses.replace(good, **change)
    with pytest.raises(UsageError, match="differs in the keys dropout"):
        Recipe.from_dict(good.to_dict() | {"dropout": 0.5})
    with pytest.raises(UsageError, match="differs in the keys epochs"):
        Recipe.from_dict({key: value for key, value in good.to_dict().items() if key != "epochs"})


def test_the_settings_of_the_authors_script() -> None:
    script = recipe("resnet50-imagenet-script")
    assert (script.epochs, script.batch_size, script.learning_rate, script.schedule) == (200, 512, 0.2, "cosine")
    assert (script.warmup_epochs, script.weight_decay, script.momentum, script.nesterov) == (0.0, 1e-4, 0.9, True)
    assert script.augmentation == "imagenet_colour"
    assert script.options["stimulative"] == {"weight": 1.0}


def test_no_two_recipes_share_their_run_folders() -> None:
    """The default folder is named by experiment, method and seed: two recipes of one experiment would meet there.

    Fine-tuning belongs to the experiment of the network that it starts from, which is in the name of its run.
    """
    experiments = [recipe(name).experiment for name in RECIPES if name not in FINE_TUNING]
    assert len(set(experiments)) == len(experiments)


def test_the_body_of_mobilenetv3_is_that_of_table_r1() -> None:
    net = build("mobilenetv3", input_shape=(3, 224, 224), num_classes=100)
    x = torch.zeros(1, 3, 224, 224)
    shapes: dict[int, torch.Size] = {}

    def note(number: int, _: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        shapes[number] = inputs[0].shape

    for number in range(1, net.topology.num_blocks + 1):
        net.block(number).register_forward_pre_hook(functools.partial(note, number))
    with torch.no_grad():
        net.eval()(x, net.topology.full)
    for row in TABLE_R1:
        assert tuple(shapes[row.index]) == (1, row.channels_in, row.side, row.side)


def test_recipes_of_before_there_were_some_keys_are_read_with_their_defaults() -> None:
    new = ("train_per_class", "evaluate_every", "watch", "watch_every", "watch_images")
    older = {key: value for key, value in recipe("mobilenetv3-cifar100").to_dict().items() if key not in new}
    plan = Recipe.from_dict(older | {"label": "paper"})
    assert (plan.train_per_class, plan.evaluate_every, plan.watch, plan.watch_images) == (None, 1, (), 2000)
    assert plan.label == PAPER


def test_recipes_in_committed_bundles_are_read() -> None:
    for path in (Path(__file__).parents[2] / "exported").glob("*/*/manifest.json"):
        plan = Recipe.from_dict(json.loads(path.read_text(encoding="utf-8"))["recipe"])
        assert plan.label == REDUCED
        assert plan.network
        assert plan.epochs >= 1


def test_when_a_recipe_evaluates_and_watches() -> None:
    plan = dataclasses.replace(recipe("resnet20-fashion"), epochs=11, evaluate_every=4, watch_every=3)
    assert [epoch for epoch in range(1, 12) if plan.watches(epoch)] == [3, 6, 9, 11]
    assert [epoch for epoch in range(1, 12) if plan.evaluates(epoch)] == [3, 4, 6, 8, 9, 11]
    plan = dataclasses.replace(plan, watch=())
    assert [epoch for epoch in range(1, 12) if plan.evaluates(epoch)] == [4, 8, 11]
    assert not any(map(plan.watches, range(1, 12)))


@pytest.mark.parametrize(
    "name",
    [
        "resnet20-fashion",
        "resnet20-w2-fashion",
        "resnet44-fashion",
        "mobilenetv3-fashion",
        "densenet-fashion",
        "resnet20-cifar10",
    ],
)
def test_the_scarce_recipe(name: str) -> None:
    plan = recipe(name)
    assert (plan.train_per_class, plan.epochs, plan.batch_size, plan.learning_rate) == (500, 60, 128, 0.1)
    assert (plan.schedule, plan.momentum, plan.nesterov, plan.augmentation) == ("one_cycle", 0.9, True, "flip_crop")
    assert (plan.precision, plan.evaluate_every, plan.watch_every, plan.watch_images) == ("fp32", 5, 5, 2000)
    shape = (3, 32, 32) if plan.dataset == "cifar10" else (1, 28, 28)
    topology = build(plan.network, input_shape=shape, num_classes=10).topology
    assert len(watched(topology, plan.watch)) == len(plan.watch) >= 2


def test_the_ablation_of_lambda_has_the_settings_of_what_it_is_compared_with() -> None:
    assert recipe("resnet20-fashion-lambda") == recipe("resnet20-fashion")
    assert set(ALIASES.values()) <= set(RECIPES)
    assert not set(ALIASES) & set(RECIPES)


def test_the_list_says_cost_and_accuracy_or_that_they_are_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert recipes.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in RECIPES:
        line = next(line for line in lines if line.split()[0] == name)
        for part in (recipe(name).label, expected(name).two_cores, expected(name).gpu, expected(name).accuracy):
            assert part in line
    assert UNKNOWN in lines[2]
    assert set(EXPECTED) <= set(RECIPES)


def test_the_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert recipes.main(["list", "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(RECIPES)
    assert set(rows[0]["expected"]) == {"two_cores", "gpu", "accuracy"}
