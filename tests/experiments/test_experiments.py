"""The lists of commands: every one is a command that its module accepts, and a stopped run goes on where it was."""

import functools
import json
import shutil
from pathlib import Path

import pytest

from stimcore.bundle import Bundle
from stimcore.convert import __main__ as convert
from stimcore.errors import UsageError
from stimcore.experiments import commands
from stimcore.experiments.__main__ import main
from stimcore.experiments.catalogue import ALIASES, PLANS
from stimcore.experiments.commands import (
    STOPPED,
    Command,
    ExperimentPlan,
    fill_commands,
    finished_commands,
    is_finished,
    open_commands,
    report_command,
    run_open_commands,
)
from stimcore.export import __main__ as export
from stimcore.export.request import bundle_name
from stimcore.nets.catalogue import build
from stimcore.recipes.catalogue import recipe
from stimcore.subnets.topology import Topology
from stimcore.sweep import __main__ as sweep
from stimcore.train import __main__ as train

ALL = [pytest.param(plan, id=plan.name) for plan in PLANS.values()]


@functools.cache
def topology_of(network: str, shape: tuple[int, int, int]) -> Topology:
    return build(network, input_shape=shape, num_classes=10).topology


def filled(plan: ExperimentPlan) -> list[Command]:
    needs = plan.needs
    return fill_commands(
        plan,
        dataset="cifar10" if commands.IMAGES in needs else None,
        weights=Path("weights") if commands.WEIGHTS in needs else None,
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


def family_of(step: Command) -> str:
    return step.words[3] + ("-as-trained" if "--as-trained" in step.words else "")


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
        assert Path(folder).parent.name in plan.folders
        swept = [s for s in steps[place:] if s.words[:2] == ("stimcore.sweep", folder)]
        assert swept or len(export.parser().parse_args(step.words[1:]).subnets) > 1 or "twin" in folder
        assert all(s.output == f"{folder}/sweep-{family_of(s)}.json" for s in swept)
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
        assert made.experiment in plan.folders
        if options.spec:
            shape = (1, 28, 28) if made.dataset == "fashion-mnist" else (3, 32, 32)
            topology = topology_of(made.network, shape)
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
    steps = fill_commands(PLANS["resnet-family-cifar10"], shared=Path("../shared"))
    assert steps[0].words[0] == "tarfile"
    assert steps[0].words[4] == "../shared/data/cifar10-jpeg.tar.gz"
    assert steps[1].words[1] == "../shared/data/pretrained/resnet32-d509ac18.th"
    assert "folder:runs/data/cifar10-jpeg" in steps[1].words
    mine = fill_commands(PLANS["resnet20-cifar10"], dataset="folder:mine")
    assert mine[0].words[0] == "stimcore.train"
    assert "folder:mine" in mine[0].words


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run"], "run without a name"),
        (["show", "resnet21"], "there is no experiment 'resnet21'"),
        (["show", "resnet20-cifar10"], "needs --dataset"),
        (["show", "resnet-family-cifar10"], "needs --dataset and --weights"),
        (["show", "resnet20-fashion", "--shared", "x"], "--shared for resnet20-fashion; allowed: neither"),
        (["show", "resnet20-cifar10", "--weights", "x", "--dataset", "cifar10"], "--weights for resnet20-cifar10"),
        (["show", "resnet20-cifar10", "--shared", "x", "--dataset", "cifar10"], "--shared and --dataset"),
        (["list", "resnet20-fashion"], "'list' with a name or an option"),
        (["list", "--finished-only"], "'list' with a name or an option"),
    ],
)
def test_wrong_use_says_what_is_right(arguments: list[str], sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        main(arguments)
    assert sentence in str(refused.value)


def test_list_counts_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    done = tmp_path / "exported" / "densenet-loafing" / "common"
    done.mkdir(parents=True)
    (done / "manifest.json").touch()
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(PLANS)
    assert " 2 of   9 steps done" in next(line for line in lines if line.startswith("densenet-loafing"))


def test_list_counts_run_folders_in_their_usual_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in PLANS["resnet-family-cifar10"].commands:
        output = tmp_path / command.output.replace("{runs}", "runs")
        output.parent.mkdir(parents=True, exist_ok=True)
        output.touch()
    main(["list"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("resnet-family-cifar10")]
    assert " 6 of   6 steps done" in line


def test_show_prints_what_run_would_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "resnet20-fashion"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(PLANS["resnet20-fashion"].commands) + 1
    assert lines[-1] == "python -m stimcore.report exported/resnet20-fashion --out report"
    assert any("--lambda 0.5" in line and line.startswith("python -m stimcore.train ") for line in lines)


def test_the_runs_over_lambda_are_an_alias(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(ALIASES.values()) <= set(PLANS)
    assert not set(ALIASES) & set(PLANS)
    printed = []
    for name in ("resnet20-fashion", "resnet20-fashion-lambda"):
        assert main(["show", name]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_seeds_repeat_runs_and_have_folders_of_their_own() -> None:
    trained = [c for c in filled(PLANS["resnet20-fashion"]) if c.makes_run]
    options = [train.parser().parse_args(c.words[1:]) for c in trained]
    by_name: dict[str, list[int]] = {}
    for command, option in zip(trained, options, strict=True):
        name = option.name or option.method
        by_name.setdefault(name, []).append(option.seed[0] if isinstance(option.seed, list) else option.seed)
        assert command.run == f"runs/resnet20-fashion/{name}-{by_name[name][-1]}"
        assert Path(command.output).parent.name == bundle_name(name, by_name[name][-1])
    assert len(by_name) == 16
    assert all(seeds == ([0] if "lambda" in name else [0, 1, 2]) for name, seeds in by_name.items())
    assert [option.seed for option in options] == sorted(option.seed for option in options)  # what is shown live comes first


def run_folder(path: Path, *, epochs: int, done: int | None) -> str:
    path.mkdir(parents=True)
    recipe_ = {} if epochs == 0 else {"epochs": epochs}
    (path / "run.json").write_text(json.dumps({"recipe": recipe_}))
    if done is not None:
        rows = "".join(json.dumps({"epoch": epoch}) + "\n" for epoch in range(1, done + 1))
        (path / "training.jsonl").write_text(rows + '{"epoch": ')  # what a killed process left
    return str(path)


def test_a_run_is_finished_when_its_last_epoch_is_recorded(tmp_path: Path) -> None:
    assert is_finished(Path(run_folder(tmp_path / "all", epochs=3, done=3)))
    assert is_finished(Path(run_folder(tmp_path / "converted", epochs=0, done=None)))
    assert not is_finished(Path(run_folder(tmp_path / "part", epochs=3, done=2)))
    assert not is_finished(Path(run_folder(tmp_path / "new", epochs=3, done=None)))
    assert not is_finished(tmp_path / "missing")
    for text in ("", "[]", '{"recipe": 3}', "{}"):
        (tmp_path / "all" / "run.json").write_text(text)
        assert not is_finished(tmp_path / "all")


def test_finished_only_leaves_out_trainings_and_what_they_lack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "elsewhere"
    here = runs / "resnet20-fashion"
    done = {run_folder(here / f"{name}-{seed}", epochs=2, done=2) for name, seed in (("common", 0), ("common", 1))}
    run_folder(here / "stimulative-0", epochs=2, done=1)
    kept, unfinished = finished_commands(fill_commands(PLANS["resnet20-fashion"], runs=runs))
    assert {command.run for command in kept} == done
    assert str(here / "stimulative-0") in unfinished
    assert [command.words[0] for command in kept] == ["stimcore.export", *["stimcore.sweep"] * 4] + [
        "stimcore.export",
        *["stimcore.sweep"] * 3,
    ]
    assert main(["show", "resnet20-fashion", "--runs", str(runs), "--finished-only"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[:-1] == list(map(str, kept))
    assert "runs that are not finished: stimulative-0, " in printed.err
    with pytest.raises(UsageError, match="no training is finished"):
        main(["show", "resnet20-fashion", "--runs", str(tmp_path), "--finished-only"])


@pytest.mark.parametrize(
    ("name", "run", "options"),
    [
        ("resnet20-cifar10", "stimulative-0", ["--dataset", "cifar10"]),
        ("resnet-family-cifar10", "resnet32", ["--weights", "pretrained"]),
    ],
)
def test_finished_only_needs_nothing_that_only_trainings_read(
    name: str, run: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder(tmp_path / name / run, epochs=2, done=2)
    asked = ["show", name, "--runs", str(tmp_path), "--finished-only"]
    images = ["--dataset", "cifar10"] if "--dataset" not in options and "{dataset}" in PLANS[name].needs else []
    assert main(asked) == 0
    shown = capsys.readouterr().out
    assert f"python -m stimcore.export {tmp_path / name / run}" in shown
    assert "{" not in shown
    # scripts that give the options all the same go on working
    assert main([*asked, *options, *images]) == 0
    assert capsys.readouterr().out == shown
    with pytest.raises(UsageError, match=f"{name} needs {options[0]}|{name} needs --dataset and {options[0]}"):
        main(asked[:-1])


def test_a_run_that_fails_costs_only_its_own_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.json").write_text("[1]")
    steps = [
        Command(("json.tool", "missing.json", "one.json"), "one.json", "runs/a"),
        Command(("json.tool", "in.json", "two.json"), "two.json", "runs/a"),
        Command(("json.tool", "in.json", "three.json"), "three.json", "runs/b"),
    ]
    assert run_open_commands(steps) == 2
    assert not Path("two.json").exists()
    assert Path("three.json").exists()


def test_ctrl_c_stops_all_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for code in (130, -2):
        codes = iter([code, 0])
        monkeypatch.setattr("stimcore.experiments.commands.run_command", lambda _, codes=codes: next(codes))
        steps = [Command(("json.tool",), "one.json", "runs/a"), Command(("json.tool",), "two.json", "runs/b")]
        assert run_open_commands(steps) == STOPPED
        assert next(codes) == 0


def test_the_documentation_names_one_command_per_experiment() -> None:
    text = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text(encoding="utf-8")
    for name, plan in PLANS.items():
        command = f"`python -m stimcore.experiments run {name}{' --shared DIR' if plan.needs else ''}`"
        line = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert command in line
        assert f"| {'yes' if plan.committed else 'no'} |" in line
