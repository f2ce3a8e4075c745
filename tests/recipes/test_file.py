"""Recipes in TOML files: everything that a built-in recipe has, and nothing else."""

import dataclasses
import json
from pathlib import Path

import pytest

from stimcore.errors import UsageError
from stimcore.recipes import __main__ as recipes
from stimcore.recipes.catalogue import RECIPES, recipe
from stimcore.recipes.file import read_recipe, to_toml
from stimcore.recipes.recipe import OWN, PAPER, REDUCED, Recipe

COMPLETE = 'network = "resnet20"\ndataset = "cifar10"\nepochs = 3\nbatch_size = 16\nlearning_rate = 0.1\n'
BASE = 'base = "resnet20-fashion"\n'
MINE = {"name": "mine", "experiment": "mine", "label": OWN}
"""What the file mine.toml has of its own when it is a copy of a recipe of the catalogue."""


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    return tmp_path / "mine.toml"


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_as_a_file(tmp_path: Path, name: str) -> None:
    plan = recipe(name)
    assert read_recipe(written(tmp_path, to_toml(plan))).to_dict() == plan.to_dict() | MINE


def test_every_setting_can_be_given(tmp_path: Path) -> None:
    """None that a recipe of the catalogue has is missing."""
    plan = dataclasses.replace(
        recipe("resnet50-imagenet-plus"),
        schedule="step",
        milestones=(2, 4),
        optimizer="adamw",
        betas=(0.8, 0.95),
        label_smoothing=0.1,
        precision="fp32",
        train_per_class=7,
        evaluate_every=2,
        watch=("smallest", "d1-1-1-1"),
        watch_every=3,
        watch_images=50,
    )
    text = to_toml(plan)
    assert {field.name for field in dataclasses.fields(Recipe)} - {line.split(" = ")[0] for line in text.splitlines()} == {
        *MINE,
        "options",  # a table
    }
    assert read_recipe(written(tmp_path, text)).to_dict() == plan.to_dict() | MINE


def test_a_complete_file_and_one_on_top_of_a_recipe(tmp_path: Path) -> None:
    plan = read_recipe(written(tmp_path, COMPLETE))
    assert (plan.name, plan.experiment, plan.label, plan.optimizer) == ("mine", "mine", OWN, "sgd")
    plan = read_recipe(
        written(tmp_path, BASE + 'epochs = 5\ntrain_per_class = 0\nname = "other"\n[options.stimulative]\nweight = 3\n')
    )
    assert (plan.name, plan.experiment, plan.epochs, plan.train_per_class) == ("other", "other", 5, None)
    assert (plan.batch_size, plan.options) == (128, {"stimulative": {"weight": 3}})
    assert plan.with_changes({"epochs": 9}).label == OWN


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            COMPLETE + "epoch = 3\n",
            "has the unknown keys epoch; allowed: base, name, label, experiment, network, dataset, epochs, ",
        ),
        (COMPLETE + "[optimizer]\nname = 'adamw'\n", r"optimizer = \{'name': 'adamw'\}: Input should be a valid string"),
        (
            "epochs = 3\n",
            'lacks the keys network, dataset, batch_size, learning_rate. Give them, or begin with the line base = "',
        ),
        (COMPLETE.replace("3", '"3"'), "epochs = '3': Input should be a valid integer"),
        (COMPLETE.replace("3", "3.5"), "epochs = 3.5: Input should be a valid integer"),
        (COMPLETE.replace("3", "true"), "epochs = True: Input should be a valid integer"),
        (COMPLETE.replace("3", "2026-01-01"), "epochs = '2026-01-01': Input should be a valid integer"),
        (COMPLETE.replace("= 3", "= = 3"), "is not TOML: Invalid value"),
        (COMPLETE + "epochs = 4\n", "is not TOML: Cannot overwrite a value"),
        (COMPLETE.replace("0.1", "nan"), "learning_rate nan in recipe mine; allowed: more than 0"),
        (COMPLETE.replace("0.1", "inf"), "learning_rate inf in recipe mine"),
        (COMPLETE + "betas = [0.9]\n", "betas.1 = .*: Field required"),
        (COMPLETE + "betas = [0.9, 1.0]\n", "betas 0.9 1 in recipe mine; allowed: two numbers from 0 to less than 1"),
        (COMPLETE + "momentum = 1.5\n", "momentum 1.5 in recipe mine; allowed: from 0 to less than 1"),
        (COMPLETE + "weight_decay = -1\n", "weight_decay -1 in recipe mine; allowed: 0 and more"),
        (COMPLETE + 'schedule = "linear"\n', "schedule 'linear' in recipe mine; allowed: cosine"),
        (COMPLETE + 'optimizer = "adam"\n', "optimizer 'adam' in recipe mine; allowed: sgd, adamw"),
        (COMPLETE + 'name = "../up"\n', "name '../up' of a recipe; allowed: a name of a folder"),
        (COMPLETE + 'experiment = ".hidden"\n', "experiment '.hidden' of a recipe"),
        (
            COMPLETE + 'label = "paper\'s settings"\n',
            "has the label 'paper's settings', for which only the recipes of the catalogue",
        ),
        ('base = "resnet"\n', "there is no recipe 'resnet'"),
        ("base = 3\n", "base = 3 in .*mine.toml; allowed: the name of a recipe between quotes"),
        (BASE + "options = 3\n", "options = 3: Input should be"),
    ],
)
def test_what_is_refused_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as refused:
        read_recipe(written(tmp_path, text))
    assert "\n" not in str(refused.value)


def test_the_mark_of_windows_editors_is_no_part_of_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b'\xef\xbb\xbfbase = "resnet20-fashion"\nepochs = 3\n')
    assert read_recipe(tmp_path / "mine.toml").epochs == 3


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the recipe .*none.toml can't be read: No such file"):
        read_recipe(tmp_path / "none.toml")
    with pytest.raises(UsageError, match="can't be read: Is a directory"):
        read_recipe(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="can't be read: .*decode"):
        read_recipe(tmp_path / "bytes.toml")


def test_overrides_change_the_label() -> None:
    """Every setting that decides about the weights, on every recipe that promises something."""
    paper = recipe("mobilenetv3-cifar100")
    for change in (
        {"optimizer": "adamw"},
        {"weight_decay": 0.1},
        {"betas": [0.5, 0.9]},
        {"learning_rate": 0.2},
        {"epochs": 1},
        {"batch_size": 8},
        {"precision": "bf16"},
        {"dataset": "cifar10"},
        {"network": "resnet20"},
        {"train_per_class": 5},
    ):
        assert paper.with_changes(change).label == REDUCED, change
    for same in ({"optimizer": "sgd"}, {"betas": [0.9, 0.999]}, {"evaluate_every": 3}, {"epochs": 500}):
        assert paper.with_changes(same).label == PAPER, same
    assert paper.with_changes({"optimizer": "adamw", "betas": [0.5, 0.9]}).name_parts(paper) == ["adamw", "betas0.5-0.9"]


def test_the_command_prints_one_to_begin_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recipes.main(["show", "resnet20-fashion"]) == 0
    printed = capsys.readouterr().out
    copied = read_recipe(written(tmp_path, printed))
    # the runs of a copy that somebody changed never lie among those of the catalogue's recipe
    assert (copied.epochs, copied.name, copied.experiment) == (60, "mine", "mine")
    own = written(tmp_path, 'name = "other"\nexperiment = "theirs"\n' + printed)
    assert recipes.main(["show", str(own)]) == 0
    assert capsys.readouterr().out.startswith('name = "other"\nexperiment = "theirs"\n')
    assert recipes.main(["show", str(tmp_path / "mine.toml"), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["label"] == OWN
    for argv in (["show"], ["list", "resnet20-fashion"]):
        with pytest.raises(UsageError, match="allowed: recipes list, or recipes show NAME"):
            recipes.main(argv)
