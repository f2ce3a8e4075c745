"""The command line of training: exit codes, the lambda sweep, twins."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from stimcore import cli
from stimcore.analysis import paper
from stimcore.bench import __main__ as bench
from stimcore.data.images import Dataset, calibration_subset
from stimcore.errors import UsageError
from stimcore.export import __main__ as export
from stimcore.recipes import recipe
from stimcore.runs.run import Run, dataset_of, training_records
from stimcore.runs.trained_run import open_run
from stimcore.train import __main__ as train
from stimcore.train.request import TrainRequest


def run(command: Callable[[Sequence[str]], int], *argv: str) -> int:
    """The exit code of a command in this process."""
    with pytest.raises(SystemExit) as ended:
        cli.run(command, argv)
    return int(ended.value.code or 0)


def quietly(folder: Path, run_dir: Path) -> list[str]:
    """The options of a run on all pictures of a folder, on the processor."""
    return ["--dataset", f"folder:{folder}", "--train-per-class", "0", "--run-dir", str(run_dir), "--quiet", "--device", "cpu"]


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "the following arguments are required: RECIPE"),
        (["resnet20-fashion", "--recipe", "mine.toml"], "two recipes, resnet20-fashion and mine.toml; allowed: RECIPE or"),
        (["--recipe", "nowhere.toml"], "the recipe nowhere.toml can't be read: No such file or directory"),
        (["resnet20-fashion", "--weight-decay", "-1"], "weight_decay -1 in recipe resnet20-fashion; allowed: 0 and more"),
        (["resnet20-fashion", "--optimizer", "adam"], "argument --optimizer: invalid choice: 'adam'"),
        (["resnet20-fashion", "--betas", "0.9", "1"], "betas 0.9 1 in recipe resnet20-fashion; allowed: two numbers from 0"),
        (["resnet20-fashion", "--learning-rate", "nan"], "learning_rate nan in recipe resnet20-fashion; allowed: more than 0"),
        (["no-such-recipe"], "there is no recipe 'no-such-recipe'; allowed: resnet20-fashion, "),
        (["resnet20-fashion", "--no-such-option"], "unrecognized arguments"),
        (["resnet20-fashion", "--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
        (["resnet20-fashion", "--seed", "-1"], "argument --seed: '-1' is not a seed; allowed: 0 to 9223372036854775807."),
        (["resnet20-fashion", "--epochs", "0"], "epochs 0 in recipe resnet20-fashion; allowed: 1 and more"),
        (["resnet20-fashion", "--device", "tpu"], "there is no device 'tpu'; allowed: auto, cpu"),
        (["resnet20-fashion", "--method", "comon"], "there is no method 'comon'; allowed: common, "),
        (["resnet20-fashion", "--method", "common", "--lambda", "1"], "--lambda with the method common; allowed: stimulative"),
        (["resnet20-fashion", "--lambda", "0.5", "1", "0.50"], "--lambda 0.5 twice; allowed: every lambda once"),
        (["resnet20-fashion", "--lambda", "0.12345678", "0.12345679"], "--lambda 0.123457 twice; allowed: every lambda once"),
        (["resnet20-fashion", "--lambda", "0.5", "--option", "weight=3"], "--lambda and --option weight; allowed: one of the"),
        (["resnet20-fashion", "--lambda", "inf"], "a lambda of inf; allowed: 0 and more"),
        (["resnet20-fashion", "--option", "temperature=inf"], "a temperature of inf; allowed: more than 0"),
        (["resnet20-fashion", "--option", "amplitude=1e400"], "an amplitude of inf; allowed: more than 0"),
        (["resnet20-fashion", "--method", "self_distillation", "--option", "beta=inf"], "a beta of inf; allowed: 0 and more"),
        (
            ["resnet20-fashion", "--epochs", "9" * 20],
            "epochs 99999999999999999999 in recipe resnet20-fashion; allowed: at most",
        ),
        (["resnet20-fashion", "--learning-rate", "1e300"], "learning_rate 1e+300 in recipe resnet20-fashion; allowed: more"),
        (
            ["resnet20-fashion", "--network", "torchvision:resnet18", "--batch-size", "16", "--accumulate", "16"],
            "in training, with 1 image at a time, block",
        ),
        (["resnet20-fashion", "--option", "weight"], "--option weight; allowed: NAME=VALUE"),
        (["resnet20-fashion", "--option", "wait=3"], "stimulative has no option wait; allowed: weight, "),
        (["resnet20-fashion", "--option", "weight=heavy"], "weight='heavy' for stimulative; allowed: a number"),
        (
            ["resnet20-fashion", "--option", "max_skipped=one"],
            "max_skipped='one' for stimulative; allowed: numbers between commas",
        ),
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
        (
            ["resnet20-fashion", "--batch-size", "1000"],
            "48 training images; allowed: at least one batch of 1000. Make batches smaller with --batch-size, at most 48.",
        ),
        (
            ["resnet20-fashion", "--train-per-class", "17"],
            "class 'class0' of pictures has 16; allowed: at most 16. Change --train-per",
        ),
        (["resnet20-fashion", "--train-per-class", "-1"], "train_per_class -1 in recipe resnet20-fashion; allowed: 1 and more"),
        (["resnet20-fashion", "--train-per-class", "9", "--holdout"], "a holdout of the same size, where class 'class0'"),
        (
            ["resnet20-fashion", "--holdout"],
            "a holdout of training images although all of them are trained on. Give the number",
        ),
        (["resnet20-fashion", "--watch", "largest"], "'largest' can't be watched: 'largest' in stage 1 is no block"),
        (["resnet20-fashion", "--watch", "d9-1-1"], "'d9-1-1' can't be watched: d9-1-1 is no ordered sub-network of resnet20"),
        (["resnet20-fashion", "--watch", "1-2.4-6.7"], "'1-2.4-6.7' can't be watched: it is not ordered; allowed: the first"),
        (["resnet20-fashion", "--watch-every", "0"], "watch_every 0 in recipe resnet20-fashion; allowed: 1 and more"),
        (["resnet20-fashion", "--name", "../x"], "--name '../x'; allowed: letters, digits, dots and dashes"),
    ],
)
def test_wrong_use_ends_with_2_and_one_sentence(
    argv: list[str], sentence: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if argv and "--dataset" not in argv:
        argv = [*argv, "--dataset", f"folder:{folder}"]
    if "--batch-size" not in argv and argv:
        argv = [*argv, "--batch-size", "16"]
    if "--train-per-class" not in argv and argv:
        argv = [*argv, "--train-per-class", "0"]
    code = run(train.main, *argv, *(["--run-dir", str(tmp_path / "run")] if argv else []))
    stderr = capsys.readouterr().err
    assert code == 2
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    assert sentence in stderr


def test_more_epochs_go_on_from_fewer_where_both_were_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    where = ["--dataset", f"folder:{folder}", "--train-per-class", "0", "--quiet", "--device", "cpu", "--batch-size", "16"]
    argv = ["resnet20-fashion", "--method", "common", "--network", "resnet8", *where]
    for epochs in ("1", "2", "3"):
        assert run(train.main, *argv, "--epochs", epochs, "--resume") == 0, capsys.readouterr().err
    assert "the finished run of 2 epochs goes on to 3" in capsys.readouterr().out
    (made,) = (tmp_path / "runs" / "resnet8-pictures").iterdir()
    assert made.name.startswith("common-epochs1-")
    assert [record["epoch"] for record in training_records(made)] == [1, 2, 3]


def test_one_command_trains_a_lambda_each(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = quietly(folder, tmp_path)
    code = run(train.main, "resnet20-fashion", *where, "--epochs", "1", "--batch-size", "16", "--lambda", "0", "0.5", "5")
    assert code == 0, capsys.readouterr().err
    weights = {
        path.name: Run.read(path).options["weight"] for path in tmp_path.iterdir() if path.is_dir() and path.name != "pictures"
    }
    assert weights == {"stimulative-lambda0": 0.0, "stimulative-lambda0.5": 0.5, "stimulative-lambda5": 5.0}
    assert len({Run.read(tmp_path / name).recipe["experiment"] for name in weights}) == 1
    out = capsys.readouterr().out
    assert out.count("epoch 1/1") == 3
    assert "images/s" in out
    assert "about 0 s left" in out
    assert "test " in out


def test_a_twin_is_the_subnet_alone(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = quietly(folder, tmp_path / "twin")
    argv = ["resnet20-fashion", *where, "--method", "common", "--epochs", "1", "--batch-size", "16", "--spec", "d1-2-1"]
    nothing = f"nothing to resume in {tmp_path / 'twin'}: a new run starts\n"
    assert run(train.main, *argv, "--resume") == 0
    assert nothing in capsys.readouterr().out
    trained_run = open_run(tmp_path / "twin")
    assert trained_run.run.spec == "1.4-5.7"
    assert trained_run.net.topology.sizes == (1, 2, 1)
    assert run(train.main, *argv, "--resume") == 0  # nothing is left to do
    assert nothing not in capsys.readouterr().out


def test_the_head_of_a_run_with_normalised_ce_comes_back_with_its_weights(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    where = quietly(folder, tmp_path / "run")
    options = ["--option", "amplitude=3", "--option", "normalised_ce=true", "--option", "smallest_side=0.6"]
    assert run(train.main, "resnet20-fashion", *where, *options, "--epochs", "1", "--batch-size", "16") == 0, (
        capsys.readouterr()
    )
    net = open_run(tmp_path / "run").net
    out = net(torch.randn((4, 1, 10, 10), generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(out.std(1, correction=0), torch.full((4,), 3.0), rtol=1e-2)


def test_options_reach_the_method(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = quietly(folder, tmp_path / "run")
    options = ["--option", "max_skipped=0,1,2", "--option", "subnets=2", "--option", "two_forward=true", "--option", "weight=2"]
    assert run(train.main, "resnet20-fashion", *where, *options, "--epochs", "1", "--batch-size", "16") == 0, (
        capsys.readouterr()
    )
    stored = Run.read(tmp_path / "run").options
    assert (stored["max_skipped"], stored["subnets"], stored["two_forward"], stored["weight"]) == ([0, 1, 2], 2, True, 2)


def trained(folder: Path, run_dir: Path, capsys: pytest.CaptureFixture[str], *argv: str) -> Path:
    """One epoch of common training on the pictures."""
    where = ["--dataset", f"folder:{folder}", "--run-dir", str(run_dir), "--quiet", "--device", "cpu", "--batch-size", "16"]
    code = run(train.main, "resnet20-fashion", "--method", "common", "--epochs", "1", *where, *argv)
    assert code == 0, capsys.readouterr().err
    return run_dir


@pytest.mark.parametrize(("native", "said"), [(True, ""), (False, "no instructions for bf16 and emulates it")])
def test_a_processor_that_emulates_bf16_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, native: bool, said: str
) -> None:
    """Training is up to ten times slower there, and nothing else would tell why."""
    monkeypatch.setattr("stimcore.train.precision.torch.cpu.get_capabilities", lambda: {"avx2": True, "amx_bf16": native})
    where = quietly(folder, tmp_path)
    few = ["--method", "common", "--epochs", "1", "--batch-size", "16"]
    assert run(train.main, "resnet20-fashion", *where, *few, "--precision", "bf16") == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "bf16" in line]
    assert len(warnings) == bool(said)
    assert said in "".join(warnings)


def test_a_run_on_fewer_images_records_them_and_is_calibrated_on_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [trained(folder, tmp_path / f"seed{seed}", capsys, "--train-per-class", "6", "--seed", seed) for seed in ("0", "1")]
    asked = [Run.read(path) for path in runs]
    assert asked[0].images == asked[1].images
    assert asked[0].images["train"] == 18
    assert asked[0].images["evaluation"] == 12
    assert asked[0].recipe["train_per_class"] == 6
    assert asked[0].started
    assert asked[0].name == "common-epochs1-batch16-perclass6"
    dataset = dataset_of(asked[0])
    assert dataset.train.sha256 == asked[0].images["train_sha256"]
    assert set(map(bytes, calibration_subset(dataset.train).pixels)) == set(map(bytes, dataset.train.pixels))
    with pytest.raises(UsageError, match="holds other training images than those that the run was trained on"):
        dataset_of(dataclasses.replace(asked[0], images={"train_sha256": "0" * 64}))


def test_a_run_on_a_holdout_says_so_and_is_never_exported(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trained(folder, tmp_path / "run", capsys, "--train-per-class", "8", "--holdout", "--watch", "smallest")
    (row,) = training_records(path)
    assert "test" not in row
    assert row["holdout"]["images"] == 24
    assert row["watched"][0]["images"] == 24
    asked = Run.read(path)
    assert asked.holdout
    assert asked.name.endswith("-holdout")
    assert "holdout" in capsys.readouterr().out
    train_images, held = (set(map(bytes, part.pixels)) for part in (dataset_of(asked).train, dataset_of(asked).test))
    assert len(train_images) == len(held) == 24
    assert not train_images & held
    code = run(export.main, str(path), "--out", str(tmp_path / "exported"))
    stderr = capsys.readouterr().err
    assert code == 2
    assert stderr.count("\n") == 1
    assert "was evaluated on a holdout of training images, so it has no test" in stderr
    assert not (tmp_path / "exported").exists()
    code = run(
        train.main,
        *["resnet20-fashion", "--method", "common", "--epochs", "1", "--batch-size", "16", "--quiet", "--device", "cpu"],
        *["--dataset", f"folder:{folder}", "--run-dir", str(path), "--train-per-class", "8", "--watch", "smallest", "--resume"],
    )
    assert code == 2
    assert "holdout was True, is now False" in capsys.readouterr().err


def test_the_watched_are_printed_and_a_twin_leaves_out_what_it_lacks(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trained(folder, tmp_path / "run", capsys, "--train-per-class", "0")
    assert [one["name"] for one in training_records(path)[0]["watched"]] == ["smallest", "half", "d1-2-3", "d3-2-1", "d2-3-2"]
    out = capsys.readouterr().out
    assert "smallest " in out
    assert "d2-3-2 " in out
    twin = trained(folder, tmp_path / "twin", capsys, "--train-per-class", "0", "--spec", "d2-2-2")
    assert [one["spec"] for one in training_records(twin)[0]["watched"]] == ["1.3.5"]
    assert Run.read(twin).recipe["watch"] == ["smallest", "half"]


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        ([], "stimulative-0"),
        (["--seed", "3"], "stimulative-3"),
        (["--lambda", "0.5"], "stimulative-lambda0.5-0"),
        (["--epochs", "60"], "stimulative-0"),
        (["--epochs", "2", "--train-per-class", "0"], "stimulative-epochs2-perclassall-0"),
        (["--option", "subnets=2", "--option", "max_skipped=0,1,2"], "stimulative-max_skipped-0,1,2-subnets-2-0"),
        (["--name", "stimulative-deletions", "--option", "subnets=2", "--epochs", "2"], "stimulative-deletions-0"),
        (["--name", "short", "--lambda", "2", "--holdout"], "short-lambda2-holdout-0"),
        (["--method", "common", "--spec", "d1-1-1"], "twin-d1-1-1-0"),
        (["--precision", "bf16", "--batch-size", "64", "--learning-rate", "0.05"], "stimulative-batch64-rate0.05-bf16-0"),
    ],
)
def test_runs_that_differ_have_different_folders(
    argv: list[str], name: str, monkeypatch: pytest.MonkeyPatch, tiny: Dataset
) -> None:
    requests: list[TrainRequest] = []
    monkeypatch.setattr(train, "load_dataset", lambda _: tiny)
    monkeypatch.setattr(train, "train_run", lambda request, *_: requests.append(request))
    assert train.main(["resnet20-fashion", "--device", "cpu", *argv]) == 0
    assert [request.folder for request in requests] == [Path("runs/resnet20-fashion") / name]
    assert [request.name for request in requests] == [name.rpartition("-")[0]]


@pytest.mark.parametrize(
    ("spec", "method", "warns"),
    [("d1-1-1", "stimulative", True), ("d1-2-1", "stimulative", False), ("d1-1-1", "common", False)],
)
def test_a_network_without_sub_networks_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], spec: str, method: str, warns: bool
) -> None:
    trained(folder, tmp_path / "run", capsys, "--train-per-class", "0", "--spec", spec, "--method", method, "--watch")
    sentence = "has no ordered sub-network besides itself: stimulative training of it is common training"
    assert (sentence in capsys.readouterr().err) == warns


@pytest.mark.parametrize(("method", "warns"), [("stimulative", True), ("common", False)])
def test_a_twin_of_another_training_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, warns: bool
) -> None:
    """Its folder is called a twin all the same, and --method is stimulative unless something else is asked for."""
    trained(folder, tmp_path / "run", capsys, "--train-per-class", "0", "--spec", "d1-2-1", "--method", method, "--watch")
    sentence = f"the twin 1.4-5.7 is trained with {method}; loafing gaps are those to twins of common training"
    assert (sentence in capsys.readouterr().err) == warns


def test_what_is_left_out_of_a_folder_is_said_before_the_training(
    monkeypatch: pytest.MonkeyPatch, tiny: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    noted = dataclasses.replace(tiny, notes=("ignored files: 3 (._* 3)", "16 bits, scaled to 8: 2 pictures"))
    monkeypatch.setattr(train, "load_dataset", lambda _: noted)
    monkeypatch.setattr(train, "train_run", lambda *_: print("trained"))
    assert train.main(["resnet20-fashion", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines() == [*(f"note: {note}" for note in noted.notes), "trained"]


@pytest.mark.parametrize(
    ("argv", "label"),
    [
        ([], recipe.PAPER),
        (["--epochs", "500", "--lambda", "10", "--seed", "4"], recipe.PAPER),
        (["--evaluate-every", "10", "--watch", "smallest"], recipe.PAPER),
        (["--spec", "d1-1-1-1-1"], recipe.PAPER),
        (["--epochs", "499"], recipe.REDUCED),
        (["--batch-size", "32"], recipe.REDUCED),
        (["--learning-rate", "0.1"], recipe.REDUCED),
        (["--precision", "bf16"], recipe.REDUCED),
        (["--train-per-class", "500"], recipe.REDUCED),
        (["--dataset", "cifar10"], recipe.REDUCED),
        (["--network", "resnet20"], recipe.REDUCED),
        (["--lambda", "5"], recipe.REDUCED),
        (["--option", "temperature=2"], recipe.REDUCED),
    ],
)
def test_the_papers_label_is_lost_with_its_settings(
    argv: list[str], label: str, monkeypatch: pytest.MonkeyPatch, tiny: Dataset
) -> None:
    labels: list[str] = []
    monkeypatch.setattr(train, "load_dataset", lambda _: tiny)
    monkeypatch.setattr(train, "train_run", lambda request, *_: labels.append(request.recipe.label))
    assert train.main(["mobilenetv3-cifar100", "--device", "cpu", *argv]) == 0
    assert labels == [label]
    assert paper.LABEL != recipe.PAPER


def test_bench_step_reports_the_keys_that_others_rely_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--network", "resnet20", "--batch-size", "4", "--pixels", "8", "--rounds", "3", "--memory-rounds", "1"]
    assert run(bench.main, "step", *small, "--device", "cpu", "--json", str(tmp_path / "step.json")) == 0
    report = json.loads((tmp_path / "step.json").read_text())
    assert report["bench"] == "step"
    assert report["network"] == "resnet20"
    assert report["n"] == 3
    assert report["machine"]["cores"]
    others = {"two_forward", "shared_prefix", "plain", "plain_channels_last"}
    limits = {"floor", "shared_prefix_over_floor", "common_over_best_plain"}
    assert set(report["ratios"]) == others | {f"memory_{name}" for name in others} | limits
    assert 1 < report["ratios"]["floor"] < 2  # a sub-network costs less than the main network, of which it shares a part
    assert set(report["images_per_second"]) == others | {"common"}
    assert all(value > 0 for value in [*report["ratios"].values(), *report["seconds"].values()])
    assert "shared_prefix" in capsys.readouterr().out
    assert run(bench.main, "step", "--rounds", "0") == 2
    assert "--rounds 0; allowed: 1 and more" in capsys.readouterr().err
    assert run(bench.main, "nonsense") == 2


def test_records_of_a_run_are_where_others_look_for_them(folder: Path, tmp_path: Path) -> None:
    where = quietly(folder, tmp_path / "run")
    assert run(train.main, "resnet20-fashion", *where, "--epochs", "1", "--batch-size", "16", "--method", "common") == 0
    (row,) = training_records(tmp_path / "run")
    assert set(row) == {
        "epoch",
        "losses",
        "learning_rate",
        "seconds",
        "cpu_seconds",
        "images_per_second",
        "device_type",
        "start_memory_bytes",
        "peak_memory_bytes",
        "test",
        "evaluate_seconds",
        "watched",
        "watch_seconds",
        "checkpoint_seconds",
    }
