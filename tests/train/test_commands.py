"""The command lines: help texts that are frozen, exit codes, the lambda sweep, twins.

`STIMCORE_WRITE_FROZEN=1 pytest tests/train/test_commands.py` writes the help texts anew; the difference is to be reviewed.
"""

import json
import os
from pathlib import Path

import pytest

from stimcore import cli
from stimcore.bench import __main__ as bench
from stimcore.bench import step
from stimcore.recipes import recipe
from stimcore.runs.run import Run, records, trained_network
from stimcore.train import __main__ as train

FROZEN = Path(__file__).parent / "frozen"


def bench_step() -> cli.Parser:
    """The options of `bench step` alone; the other benchmarks have theirs."""
    line = cli.Parser(prog="python -m stimcore.bench step")
    step.add_arguments(line)
    return line


PARSERS = {"train": train.parser, "recipes": recipe.parser, "bench-step": bench_step}


@pytest.mark.parametrize("name", PARSERS)
def test_help_texts_are_frozen(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    text = PARSERS[name]().format_help()
    path = FROZEN / f"{name}.txt"
    if os.environ.get("STIMCORE_WRITE_FROZEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def run(command, *argv: str) -> int:
    """The exit code of a command in this process."""
    with pytest.raises(SystemExit) as ended:
        cli.run(command, argv)
    return int(ended.value.code)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "the following arguments are required: RECIPE"),
        (["no-such-recipe"], "there is no recipe 'no-such-recipe'; allowed: resnet20-fashion, "),
        (["resnet20-fashion", "--no-such-option"], "unrecognized arguments"),
        (["resnet20-fashion", "--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
        (["resnet20-fashion", "--epochs", "0"], "epochs 0 in recipe resnet20-fashion; allowed: 1 and more"),
        (["resnet20-fashion", "--device", "tpu"], "there is no device 'tpu'; allowed: auto, cpu"),
        (["resnet20-fashion", "--method", "comon"], "there is no method 'comon'; allowed: common, "),
        (["resnet20-fashion", "--method", "common", "--lambda", "1"], "--lambda with the method common; allowed: stimulative"),
        (["resnet20-fashion", "--option", "weight"], "--option weight; allowed: NAME=VALUE"),
        (["resnet20-fashion", "--option", "wait=3"], "stimulative has no option wait; allowed: weight, "),
        (["resnet20-fashion", "--option", "weight=heavy"], "weight='heavy' for stimulative; allowed: a number"),
        (["resnet20-fashion", "--option", "max_skipped=3"], "max_skipped=3 for stimulative; allowed: numbers between commas"),
        (["resnet20-fashion", "--option", "subnets=1.5"], "subnets=1.5 for stimulative; allowed: a whole number"),
        (["resnet20-fashion", "--option", "two_forward=1"], "two_forward=1 for stimulative; allowed: true or false"),
        (["resnet20-fashion", "--lambda", "-1"], "a lambda of -1.0; allowed: 0 and more"),
        (["resnet20-fashion", "--dataset", "mnist"], "there is no data set 'mnist'; allowed: fashion-mnist, "),
        (["resnet20-fashion", "--dataset", "folder:/no/such/folder"], "there is no folder /no/such/folder"),
        (["resnet20-fashion", "--network", "resnet21"], "there is no network 'resnet21'"),
        (["resnet20-fashion", "--spec", "d9-9-9"], "d9-9-9 is no ordered sub-network of resnet20"),
        (["resnet20-fashion", "--precision", "fp16", "--device", "cpu"], "fp16 needs a CUDA device"),
        (["resnet20-fashion", "--sync-norms", "--device", "cpu"], "synchronised batch norms on cpu"),
        (["resnet20-fashion", "--method", "stochastic_depth", "--compile"], "--compile with this method"),
        (["resnet20-fashion", "--batch-size", "1000"], "48 training images; allowed: at least one batch of 1000"),
    ],
)
def test_wrong_use_ends_with_2_and_one_sentence(argv, sentence, folder, tmp_path, capsys):
    if argv and "--dataset" not in argv:
        argv = [*argv, "--dataset", f"folder:{folder}"]
    if "--batch-size" not in argv and argv:
        argv = [*argv, "--batch-size", "16"]
    code = run(train.main, *argv, *(["--run-dir", str(tmp_path / "run")] if argv else []))
    said = capsys.readouterr().err
    assert code == 2 and said.startswith("error: ") and said.count("\n") == 1
    assert sentence in said


def test_one_command_trains_a_lambda_each(folder, tmp_path, capsys):
    where = ["--dataset", f"folder:{folder}", "--run-dir", str(tmp_path), "--quiet", "--device", "cpu"]
    code = run(train.main, "resnet20-fashion", *where, "--epochs", "1", "--batch-size", "16", "--lambda", "0", "0.5", "5")
    assert code == 0, capsys.readouterr().err
    found = {
        path.name: Run.read(path).options["weight"] for path in tmp_path.iterdir() if path.is_dir() and path.name != "pictures"
    }
    assert found == {"stimulative-lambda0": 0.0, "stimulative-lambda0.5": 0.5, "stimulative-lambda5": 5.0}
    assert len({Run.read(tmp_path / name).recipe["experiment"] for name in found}) == 1
    out = capsys.readouterr().out
    assert out.count("epoch 1/1") == 3 and "images/s" in out and "min left" in out and "test " in out


def test_a_twin_is_the_subnet_alone(folder, tmp_path, capsys):
    where = ["--dataset", f"folder:{folder}", "--run-dir", str(tmp_path / "twin"), "--quiet", "--device", "cpu"]
    argv = ["resnet20-fashion", *where, "--method", "common", "--epochs", "1", "--batch-size", "16", "--spec", "d1-2-1"]
    assert run(train.main, *argv) == 0, capsys.readouterr().err
    asked, net, _ = trained_network(tmp_path / "twin")
    assert asked.spec == "1.4-5.7" and net.topology.sizes == (1, 2, 1)
    assert run(train.main, *argv, "--resume") == 0  # nothing is left to do


def test_the_head_of_a_run_with_normalised_ce_comes_back_with_its_weights(folder, tmp_path, capsys):
    import torch

    where = ["--dataset", f"folder:{folder}", "--run-dir", str(tmp_path / "run"), "--quiet", "--device", "cpu"]
    options = ["--option", "amplitude=3", "--option", "normalised_ce=true", "--option", "smallest_side=0.6"]
    assert run(train.main, "resnet20-fashion", *where, *options, "--epochs", "1", "--batch-size", "16") == 0, (
        capsys.readouterr()
    )
    _, net, _ = trained_network(tmp_path / "run")
    out = net(torch.randn((4, 1, 10, 10), generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(out.std(1, correction=0), torch.full((4,), 3.0), rtol=1e-2)


def test_options_reach_the_method(folder, tmp_path, capsys):
    where = ["--dataset", f"folder:{folder}", "--run-dir", str(tmp_path / "run"), "--quiet", "--device", "cpu"]
    options = ["--option", "max_skipped=0,1,2", "--option", "subnets=2", "--option", "two_forward=true", "--option", "weight=2"]
    assert run(train.main, "resnet20-fashion", *where, *options, "--epochs", "1", "--batch-size", "16") == 0, (
        capsys.readouterr()
    )
    found = Run.read(tmp_path / "run").options
    assert (found["max_skipped"], found["subnets"], found["two_forward"], found["weight"]) == ([0, 1, 2], 2, True, 2)


def test_bench_step_reports_the_keys_that_others_rely_on(tmp_path, capsys):
    small = ["--network", "resnet20", "--batch-size", "4", "--pixels", "8", "--rounds", "3", "--memory-rounds", "1"]
    assert run(bench.main, "step", *small, "--device", "cpu", "--json", str(tmp_path / "step.json")) == 0
    report = json.loads((tmp_path / "step.json").read_text())
    assert report["bench"] == "step" and report["network"] == "resnet20" and report["n"] == 3 and report["machine"]["cores"]
    assert set(report["ratios"]) == {"two_forward", "shared_prefix", "memory_two_forward", "memory_shared_prefix"}
    assert all(value > 0 for value in [*report["ratios"].values(), *report["seconds"].values()])
    assert "shared_prefix" in capsys.readouterr().out
    assert run(bench.main, "step", "--rounds", "0") == 2
    assert "--rounds 0; allowed: 1 and more" in capsys.readouterr().err
    assert run(bench.main, "nonsense") == 2


def test_records_of_a_run_are_where_others_look_for_them(folder, tmp_path):
    where = ["--dataset", f"folder:{folder}", "--run-dir", str(tmp_path / "run"), "--quiet", "--device", "cpu"]
    assert run(train.main, "resnet20-fashion", *where, "--epochs", "1", "--batch-size", "16", "--method", "common") == 0
    (row,) = records(tmp_path / "run")
    assert set(row) == {
        "epoch",
        "losses",
        "learning_rate",
        "seconds",
        "cpu_seconds",
        "images_per_second",
        "peak_memory_bytes",
        "test",
    }
