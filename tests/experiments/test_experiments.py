"""The lists of commands: every one is a command that its module accepts, and a stopped run goes on where it was."""

import json
import shutil
from pathlib import Path

import pytest

from stimcore.bundle import Bundle
from stimcore.convert import __main__ as convert
from stimcore.errors import UsageError
from stimcore.experiments import catalogue
from stimcore.experiments.__main__ import main
from stimcore.experiments.catalogue import (
    PLANS,
    Command,
    ExperimentPlan,
    fill_commands,
    open_commands,
    report_command,
    run_open_commands,
)
from stimcore.export import __main__ as export
from stimcore.nets.catalogue import build
from stimcore.recipes.catalogue import ALIASES, recipe
from stimcore.sweep import __main__ as sweep
from stimcore.train import __main__ as train

ALL = [pytest.param(plan, id=plan.name) for plan in PLANS.values()]


def filled(plan: ExperimentPlan) -> list[Command]:
    needs = plan.needs
    return fill_commands(
        plan,
        dataset="cifar10" if catalogue.IMAGES in needs else None,
        weights=Path("weights") if catalogue.WEIGHTS in needs else None,
        shared=None,
    )


@pytest.mark.parametrize("plan", ALL)
def test_every_command_is_one_that_its_module_accepts(plan: ExperimentPlan) -> None:
    parsers = {
        "stimcore.train": train.parser,
        "stimcore.convert": convert.parser,
        "stimcore.export": export.parser,
        "stimcore.sweep": sweep.parser,
    }
    for step in filled(plan):
        module, *words = step.words
        assert "{" not in " ".join(words)
        parsers[module]().parse_args(words)


@pytest.mark.parametrize("plan", ALL)
def test_every_bundle_is_trained_exported_and_swept_in_this_order(plan: ExperimentPlan) -> None:
    steps = filled(plan)
    exported = [step for step in steps if step.words[0] == "stimcore.export"]
    made = {
        step.words[step.words.index("--run-dir") + 1]: place for place, step in enumerate(steps) if "--run-dir" in step.words
    }
    assert len({step.output for step in exported}) == len(exported)
    for step in exported:
        place = steps.index(step)
        assert made[step.words[1]] < place
        folder = str(Path(step.output).parent)
        assert folder.startswith(f"exported/{plan.name}/")
        swept = [s for s in steps[place:] if s.words[:2] == ("stimcore.sweep", folder)]
        assert swept
        assert all(s.output == f"{folder}/sweep-{s.words[3]}.json" for s in swept)
    assert not any(
        step.words[0] == "stimcore.export" and "twin" in step.output for step in steps[:3]
    )  # the whole network first


@pytest.mark.parametrize("plan", ALL)
def test_recipes_belong_and_specs_exist(plan: ExperimentPlan) -> None:
    for step in filled(plan):
        module, *words = step.words
        if module != "stimcore.train":
            continue
        options = train.parser().parse_args(words)
        made = recipe(options.recipe)
        assert made.experiment == plan.name or options.recipe in ALIASES  # an alias belongs to another experiment
        if options.spec:
            shape = (1, 28, 28) if made.dataset == "fashion-mnist" else (3, 32, 32)
            topology = build(made.network, input_shape=shape, num_classes=10).topology
            assert topology.depths(topology.parse(options.spec)) is not None


def test_a_stopped_run_goes_on_at_the_first_open_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.json").write_text("[1]")
    steps = [
        Command(("json.tool", "in.json", "one.json"), "one.json"),
        Command(("json.tool", "missing.json", "two.json"), "two.json"),
        Command(("json.tool", "in.json", "three.json"), "three.json"),
    ]
    assert run_open_commands(steps) != 0
    assert Path("one.json").exists()
    assert not Path("three.json").exists()
    assert open_commands(steps, tmp_path) == steps[1:]
    Path("missing.json").write_text("[2]")
    Path("one.json").write_text("kept")
    assert run_open_commands(steps) == 0
    assert Path("one.json").read_text() == "kept"
    assert json.loads(Path("two.json").read_text()) == [2]
    assert json.loads(Path("three.json").read_text()) == [1]
    assert open_commands(steps, tmp_path) == []


def test_a_run_ends_with_the_report(small: list[Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = ExperimentPlan(name="tiny", about="already there", commands=())
    shutil.copytree(small[0].path.parent, "exported/tiny")
    monkeypatch.setitem(PLANS, "tiny", plan)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    assert main(["run", "tiny"]) == 0
    assert "Table r6" in Path(report_command(plan).output).read_text(encoding="utf-8")


def test_shared_stands_for_images_and_weights() -> None:
    steps = fill_commands(PLANS["resnet-family-cifar10"], dataset=None, weights=None, shared=Path("../shared"))
    assert steps[0].words[0] == "tarfile"
    assert steps[0].words[4] == "../shared/data/cifar10-jpeg.tar.gz"
    assert steps[1].words[1] == "../shared/data/pretrained/resnet32-d509ac18.th"
    assert "folder:runs/data/cifar10-jpeg" in steps[1].words
    mine = fill_commands(PLANS["resnet20-cifar10"], dataset="folder:mine", weights=None, shared=None)
    assert mine[0].words[0] == "stimcore.train"
    assert "folder:mine" in mine[0].words


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "run without a name"),
        (["show", "resnet21"], "there is no experiment 'resnet21'"),
        (["show", "resnet20-cifar10"], "needs --dataset"),
        (["show", "resnet-family-cifar10"], "needs --dataset and --weights"),
        (["show", "resnet20-fashion", "--shared", "x"], "--shared for resnet20-fashion; allowed: neither"),
        (["show", "resnet20-cifar10", "--weights", "x", "--dataset", "cifar10"], "--weights for resnet20-cifar10"),
        (["show", "resnet20-cifar10", "--shared", "x", "--dataset", "cifar10"], "--shared and --dataset"),
        (["list", "resnet20-fashion"], "'list' with a name or an option"),
    ],
)
def test_wrong_use_says_what_is_right(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        main(arguments)
    assert said in str(refused.value)


def test_list_counts_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    done = tmp_path / "exported" / "densenet-loafing" / "common"
    done.mkdir(parents=True)
    (done / "manifest.json").touch()
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(PLANS)
    assert " 2 of  9 steps done" in next(line for line in lines if line.startswith("densenet-loafing"))


def test_show_prints_what_run_would_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "resnet20-fashion-lambda"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(PLANS["resnet20-fashion-lambda"].commands) + 1
    assert lines[-1] == "python -m stimcore.report exported/resnet20-fashion-lambda --out report"
    assert any("--lambda 0.5" in line and line.startswith("python -m stimcore.train ") for line in lines)


def test_the_documentation_names_one_command_per_experiment() -> None:
    text = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text(encoding="utf-8")
    for name, plan in PLANS.items():
        command = f"`python -m stimcore.experiments run {name}{' --shared DIR' if plan.needs else ''}`"
        line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert command in line
        assert f"| {'yes' if plan.committed else 'no'} |" in line
