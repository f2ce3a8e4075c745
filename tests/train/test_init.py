"""Runs that start from weights, and finished runs that go on."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor

from stimcore import cli
from stimcore.bench.curves import striped_images as pictures
from stimcore.bundle import open_bundle
from stimcore.data.images import Dataset
from stimcore.errors import CheckpointError, UsageError
from stimcore.nets.catalogue import build
from stimcore.recipes.recipe import PAPER, REDUCED, Recipe
from stimcore.runs.run import Run, training_records
from stimcore.train import __main__ as train
from stimcore.train.init import initialise, origin, read_initial
from stimcore.train.request import TrainRequest
from stimcore.train.schedule import learning_rate
from stimcore.train.settings import Settings
from stimcore.train.train_run import TrainListener, train_run
from tests.train.conftest import digest, newest

NETWORK = "tests.nets.own_network:residual"
HEAD = ("4.2.weight", "4.2.bias")


class Notes(TrainListener):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture
def plan(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, network=NETWORK, epochs=2)


def trained(folder: Path, plan: Recipe, data: Dataset, **request: Any) -> list[str]:
    """Train into a folder, and return what the listener was told."""
    notes = Notes()
    settings = Settings(progress=False)
    request = {"method": "common"} | request
    wanted = TrainRequest(recipe=plan, folder=folder, name="run", settings=settings, **request)
    train_run(wanted, data, notes)
    return notes.notes


def with_classes(data: Dataset, classes: int) -> Dataset:
    names = tuple(f"class{number}" for number in range(classes))
    train, test = pictures(48, classes=min(classes, 3)), pictures(12, classes=min(classes, 3), seed=1)
    return dataclasses.replace(data, train=train, test=test, classes=names)


def first_weights(folder: Path) -> dict[str, Tensor]:
    return dict(newest(folder)[1].network)


def test_a_run_starts_from_another_run(tmp_path: Path, plan: Recipe, tiny: Dataset) -> None:
    trained(tmp_path / "first", plan, tiny)
    frozen = dataclasses.replace(plan, epochs=1, learning_rate=1e-12, weight_decay=0.0)
    (note,) = trained(tmp_path / "second", frozen, tiny, init=str(tmp_path / "first"))
    before, after = first_weights(tmp_path / "first"), first_weights(tmp_path / "second")
    assert all(torch.allclose(after[key], before[key], atol=1e-6) for key in after if key.endswith("weight"))
    assert note.startswith("starts from run run, tests.nets.own_network:residual, epoch 2 (sha256 ")
    assert note.endswith("; the head is the file's too")
    assert Run.read(tmp_path / "second").init["source"] in note
    assert Run.read(tmp_path / "first").init == {}


@pytest.mark.parametrize("kind", ["file", "safetensors", "run"])
def test_a_head_of_another_width_is_made_new_and_named(tmp_path: Path, plan: Recipe, tiny: Dataset, kind: str) -> None:
    five = with_classes(tiny, 5)
    trained(tmp_path / "run", dataclasses.replace(plan, epochs=1), five)
    state = first_weights(tmp_path / "run")
    source = tmp_path / "run"
    if kind == "file":
        source = tmp_path / "weights.pt"
        torch.save({"model": {f"module.{key}": value for key, value in state.items()}, "epoch": 1}, source)
    elif kind == "safetensors":
        source = tmp_path / "weights.safetensors"
        safetensors.torch.save_file({key: value.contiguous() for key, value in state.items()}, source)
    net = build(NETWORK, input_shape=tiny.image_shape, num_classes=3)
    fresh = {key: value.clone() for key, value in net.module.state_dict().items()}
    result = initialise(net, read_initial(str(source), NETWORK))
    assert (result.new, result.unused, result.loaded) == (("4.2",), (), len(state) - 2)
    for key, value in net.module.state_dict().items():
        assert torch.equal(value, fresh[key] if key in HEAD else state[key]), key
    assert "new with random weights: 4.2" in result.sentence()


def test_a_backbone_without_a_head_and_keys_that_nothing_uses(tmp_path: Path) -> None:
    net = build(NETWORK, input_shape=(1, 10, 10), num_classes=3)
    state = {f"backbone.{key}": value for key, value in net.module.state_dict().items() if key not in HEAD}
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(state | {"backbone.projector.weight": torch.ones(2, 2), "queue": torch.ones(3)}, tmp_path / "moco.pt")
    result = initialise(net, read_initial(str(tmp_path / "moco.pt"), NETWORK))
    assert result.new == ("4.2",)
    assert result.unused == ("projector.weight", "queue")
    assert len(result.kept) == 3
    sentence = result.sentence()
    assert "in the file and not used: projector.weight, queue" in sentence
    assert "not in the file: 1.norm.num_batches_tracked" in sentence


def test_half_of_a_network_is_no_start(tmp_path: Path) -> None:
    net = build(NETWORK, input_shape=(1, 10, 10), num_classes=3)
    state = dict(net.module.state_dict())
    del state["2.conv.weight"]
    torch.save(state | {"0.weight": torch.ones(4, 3, 3, 3)}, tmp_path / "part.pt")
    message = r"outside of its head: 0.weight is \(4, 3, 3, 3\) instead of \(4, 1, 3, 3\), 2.conv.weight is missing\. Give the"
    with pytest.raises(CheckpointError, match=message):
        initialise(net, read_initial(str(tmp_path / "part.pt"), NETWORK))
    torch.save(dict(net.module.state_dict()) | {"0.weight": torch.full((4, 1, 3, 3), np.nan)}, tmp_path / "nan.pt")
    with pytest.raises(CheckpointError, match="not finite: 0.weight"):
        initialise(net, read_initial(str(tmp_path / "nan.pt"), NETWORK))


def test_torchvisions_weights_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision reads its cache, so no network is needed."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(state, cache / "resnet18-f37072fd.pth")
    weights = read_initial("torchvision:IMAGENET1K_V1", "resnet18")
    assert weights.source == "torchvision's resnet18 IMAGENET1K_V1"
    assert torch.equal(weights.tensors["conv1.weight"], state["conv1.weight"])
    small = build("resnet18", input_shape=(3, 32, 32), num_classes=7)
    with pytest.raises(CheckpointError, match=r"conv1.weight is \(64, 3, 7, 7\) instead of \(64, 3, 3, 3\).*PATH@224"):
        initialise(small, read_initial("torchvision:DEFAULT", "resnet18"))
    # under its name in the library it is the library's network, unchanged
    theirs = build("torchvision:resnet18", input_shape=(3, 32, 32), num_classes=7)
    assert initialise(theirs, read_initial("torchvision:DEFAULT", "torchvision:resnet18")).new == ("fc",)
    assert torch.equal(theirs.module.state_dict()["conv1.weight"], state["conv1.weight"])


def test_a_twin_starts_from_the_whole_network_or_from_a_twin(tmp_path: Path, plan: Recipe, tiny: Dataset) -> None:
    one = dataclasses.replace(plan, epochs=1)
    trained(tmp_path / "whole", one, tiny)
    frozen = dataclasses.replace(one, learning_rate=1e-12, weight_decay=0.0)
    trained(tmp_path / "twin", frozen, tiny, spec="d1-1", init=str(tmp_path / "whole"))
    whole, twin = first_weights(tmp_path / "whole"), first_weights(tmp_path / "twin")
    assert torch.allclose(twin["block2.conv.weight"], whole["2.conv.weight"], atol=1e-6)
    trained(tmp_path / "again", frozen, tiny, spec="d1-1", init=str(tmp_path / "twin"))
    assert torch.allclose(first_weights(tmp_path / "again")["block2.conv.weight"], twin["block2.conv.weight"], atol=1e-6)


def test_a_resumed_run_keeps_its_start(tmp_path: Path, plan: Recipe, tiny: Dataset) -> None:
    trained(tmp_path / "first", plan, tiny)
    trained(tmp_path / "other", dataclasses.replace(plan, epochs=1), tiny)
    trained(tmp_path / "run", plan, tiny, init=str(tmp_path / "first"))
    stored = Run.read(tmp_path / "run")
    # without --init, and with the same: nothing is read again
    trained(tmp_path / "run", plan, tiny, resume=True)
    trained(tmp_path / "run", plan, tiny, resume=True, init=str(tmp_path / "first"))
    assert Run.read(tmp_path / "run") == stored
    with pytest.raises(UsageError, match=r"other settings: init was run run.*is now run run"):
        trained(tmp_path / "run", plan, tiny, resume=True, init=str(tmp_path / "other"))


def test_a_finished_run_goes_on(tmp_path: Path, plan: Recipe, tiny: Dataset) -> None:
    trained(tmp_path / "run", plan, tiny)
    longer = dataclasses.replace(plan, epochs=5)
    (note,) = trained(tmp_path / "run", longer, tiny, resume=True)
    rates = [record["learning_rate"] for record in training_records(tmp_path / "run")]
    assert [record["epoch"] for record in training_records(tmp_path / "run")] == [1, 2, 3, 4, 5]
    # the schedule of five epochs from the third on, that of two before
    assert rates == [learning_rate(plan if e <= 2 else longer, 3 * e - 1, 3) for e in range(1, 6)]
    assert "finished run of 2 epochs goes on to 5; the learning rate follows the schedule of 5 epochs from here" in note
    run = Run.read(tmp_path / "run")
    assert run.recipe["epochs"] == 5
    assert [(step["before"], step["after"]) for step in run.extended] == [(2, 5)]
    # as if it had not stopped in between: the same weights, bit for bit
    trained(tmp_path / "other", plan, tiny)
    trained(tmp_path / "other", dataclasses.replace(plan, epochs=5), tiny, resume=True)
    assert digest(newest(tmp_path / "other")[1]) == digest(newest(tmp_path / "run")[1])
    with pytest.raises(UsageError, match="other settings: epochs was 5, is now 2"):
        trained(tmp_path / "run", plan, tiny, resume=True)
    with pytest.raises(UsageError, match=r"epochs was 5, is now 6; learning_rate was 0.02, is now 0.5"):
        trained(tmp_path / "run", dataclasses.replace(plan, epochs=6, learning_rate=0.5), tiny, resume=True)


def test_an_unfinished_run_keeps_its_schedule(tmp_path: Path, plan: Recipe, tiny: Dataset) -> None:
    trained(tmp_path / "run", plan, tiny)
    (tmp_path / "run" / "checkpoint-0002.pt").unlink()
    with pytest.raises(UsageError, match="other settings: epochs was 2, is now 5"):
        trained(tmp_path / "run", dataclasses.replace(plan, epochs=5), tiny, resume=True)


def run(*argv: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.run(train.main, argv)
    return int(ended.value.code or 0)


def test_from_the_command_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels and folders: a paper's recipe that starts from weights, or goes on, is no longer the paper's."""
    monkeypatch.chdir(tmp_path)
    common = ["mobilenetv3-cifar10", "--method", "common", "--device", "cpu", "--quiet", "--batch-size", "16"]
    common += ["--dataset", f"folder:{folder}", "--network", NETWORK]
    assert run(*common, "--epochs", "1", "--name", "first") == 0, capsys.readouterr().err
    first = tmp_path / "runs" / "residual-pictures" / "first-0"
    assert run(*common, "--epochs", "1", "--init", str(first)) == 0
    out = capsys.readouterr().out
    assert "starts from run first, " in out
    folders = [path.name for path in (tmp_path / "runs" / "residual-pictures").iterdir()]
    assert any(name.startswith("common-init-first-0") for name in folders), folders
    assert run(*common, "--epochs", "2", "--name", "first", "--resume") == 0
    assert "the finished run of 1 epochs goes on to 2" in capsys.readouterr().out
    assert Run.read(first).recipe["label"] == REDUCED
    for argv, sentence in (
        (
            ["--init", "nowhere"],
            "there is nothing called 'nowhere' to start from; allowed: a run folder, a bundle, a file of weights, tor",
        ),
        (["--init", str(tmp_path)], "is not a run folder"),
        (["--ema"], "--ema without --init"),
        (["--ema", "--init", str(first)], "it has no averaged weights"),
        (["--init", "torchvision:IMAGENET1K_V1"], f"torchvision has no weights of {NETWORK}"),
    ):
        assert run(*common, "--epochs", "1", "--name", "bad", *argv) in (1, 2)
        stderr = capsys.readouterr().err
        assert stderr.startswith("error: ")
        assert stderr.count("\n") == 1
        assert sentence in stderr


def test_weights_change_the_label() -> None:
    from stimcore.recipes.catalogue import recipe as named
    from stimcore.train.request import with_true_label

    paper = named("mobilenetv3-cifar100")
    options = paper.options["stimulative"]
    assert with_true_label(paper, "stimulative", options).label == PAPER
    assert with_true_label(paper, "stimulative", options, "weights.pt").label == REDUCED


def test_a_finished_run_of_the_recipe_goes_on_in_its_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its folder's name has no number of epochs, although the longer run gives one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(
        f'network = "{NETWORK}"\ndataset = "folder:{folder}"\nepochs = 1\nbatch_size = 16\nlearning_rate = 0.02\n'
    )
    common = ["--recipe", "mine.toml", "--method", "common", "--device", "cpu", "--quiet"]
    assert run(*common) == 0
    assert run(*common, "--epochs", "2", "--resume") == 0
    assert [path.name for path in (tmp_path / "runs" / "mine").iterdir()] == ["common-0"]
    assert len(training_records(tmp_path / "runs" / "mine" / "common-0")) == 2
    assert Run.read(tmp_path / "runs" / "mine" / "common-0").label == "own recipe"
    capsys.readouterr()


def test_a_committed_bundle_is_a_beginning(tmp_path: Path) -> None:
    """Its main network with the statistics that training left; a head for other classes is new."""
    bundle = Path(__file__).parents[2] / "exported" / "resnet20-fashion" / "stimulative"
    weights = read_initial(str(bundle), "resnet20")
    assert weights.source.startswith("bundle resnet20-fashion/stimulative, resnet20 (checkpoint sha256 ")
    same = initialise(build("resnet20", input_shape=(1, 28, 28), num_classes=10), weights)
    assert (same.new, same.kept) == ((), ())
    other = build("resnet20", input_shape=(1, 28, 28), num_classes=3)
    assert initialise(other, weights).new == ("linear",)
    assert torch.equal(other.module.state_dict()["bn1.running_var"], weights.tensors["bn1.running_var"])
    with pytest.raises(CheckpointError, match="does not fit resnet32 outside of its head: layer1.3.bn1.bias is missing"):
        initialise(build("resnet32", input_shape=(1, 28, 28), num_classes=10), weights)
    with pytest.raises(UsageError, match="--ema with the bundle .*stimulative: it has no averaged weights"):
        read_initial(str(bundle), "resnet20", averaged=True)


def test_the_frozen_original_is_the_teacher_and_stays_it(tmp_path: Path, plan: Recipe, tiny: Dataset) -> None:
    """A run that was stopped has the same teacher as one that was not, also without the weights that it started from."""
    options: dict[str, Any] = {"method": "stimulative", "options": {"target": "frozen", "weight": 3.0}}
    with pytest.raises(UsageError, match=r"no weights to start from; allowed: target=frozen with --init WEIGHTS"):
        trained(tmp_path / "none", plan, tiny, **options)
    assert not (tmp_path / "none" / "run.json").exists()
    trained(tmp_path / "first", plan, tiny)
    trained(tmp_path / "whole", plan, tiny, init=str(tmp_path / "first"), **options)
    (tmp_path / "whole").rename(tmp_path / "stopped")
    trained(tmp_path / "whole", plan, tiny, init=str(tmp_path / "first"), **options)
    (tmp_path / "stopped" / "checkpoint-0002.pt").unlink()
    trained(tmp_path / "stopped", plan, tiny, resume=True, **options)
    whole = newest(tmp_path / "whole")[1]
    assert digest(newest(tmp_path / "stopped")[1]) == digest(whole)
    before = first_weights(tmp_path / "first")
    teacher = {key.removeprefix("net.module."): value for key, value in whole.auxiliary.items()}
    assert teacher.keys() == before.keys()
    assert all(torch.equal(teacher[key], before[key]) for key in before)
    assert not torch.equal(whole.network["2.conv.weight"], before["2.conv.weight"])


def test_fine_tuning_takes_over_network_and_images(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--device", "cpu", "--quiet", "--batch-size", "16", "--epochs", "1"]
    begin = ["resnet20-cifar10", "--network", "resnet14", "--dataset", f"folder:{folder}", "--train-per-class", "0"]
    assert run(*begin, *options, "--method", "common", "--name", "mine") == 0, capsys.readouterr().err
    first = tmp_path / "runs" / "resnet14-pictures" / "mine-0"
    assert run("elastic-finetune", *options, "--init", str(first)) == 0, capsys.readouterr().err
    (second,) = first.parent.glob("stimulative-*")
    before, after = Run.read(first), Run.read(second)
    assert second.name == "stimulative-init-mine-0-epochs1-batch16-0"
    assert (after.network, after.dataset, after.images) == (before.network, before.dataset, before.images)
    assert after.recipe["experiment"] == "resnet14-pictures"
    assert after.recipe["learning_rate"] == 0.05
    # what is given on the command line counts
    assert run("elastic-finetune", *options, "--init", str(first), "--train-per-class", "8", "--name", "fewer") == 0
    assert Run.read(first.parent / "fewer-0").recipe["train_per_class"] == 8
    # the weights of a twin are those of a twin
    assert run(*begin, *options, "--method", "common", "--spec", "d1-1-2", "--name", "twin") == 0
    assert run("elastic-finetune", *options, "--init", str(first.parent / "twin-0"), "--name", "twin-tuned") == 0
    assert Run.read(first.parent / "twin-tuned-0").spec == Run.read(first.parent / "twin-0").spec
    capsys.readouterr()
    assert run("elastic-finetune", *options) == 2
    assert "elastic-finetune without --init; allowed: --init with a run folder, a bundle" in capsys.readouterr().err
    # a file on top of the recipe does the same, and what it says itself counts
    (tmp_path / "mine.toml").write_text('base = "elastic-finetune"\ntrain_per_class = 8\nepochs = 1\nbatch_size = 16\n')
    from_file = ["--recipe", "mine.toml", "--device", "cpu", "--quiet"]
    assert run(*from_file, "--init", str(first), "--name", "of-file") == 0, capsys.readouterr().err
    tuned = Run.read(first.parent / "of-file-0")
    assert (tuned.network, tuned.dataset) == (before.network, before.dataset)
    assert tuned.recipe["train_per_class"] == 8
    capsys.readouterr()
    assert run(*from_file) == 2
    assert "mine without --init" in capsys.readouterr().err


def test_a_folder_with_a_dot_in_its_name_gives_its_whole_name(tmp_path: Path) -> None:
    """Two lambdas would share the folder of one run."""
    (tmp_path / "stimulative-lambda0.5-0").mkdir()
    assert train._weights_name(str(tmp_path / "stimulative-lambda0.5-0")) == "stimulative-lambda0.5-0"
    assert train._weights_name(str(tmp_path / "weights.pt")) == "weights"
    assert train._weights_name("torchvision:IMAGENET1K_V1") == "IMAGENET1K_V1"


@pytest.mark.parametrize("name", ["resnet20-fashion/common", "mobilenetv3-fashion/stimulative"])
def test_the_origin_of_a_bundle(name: str) -> None:
    path = Path(__file__).parents[2] / "exported" / name
    start = origin(str(path))
    assert start is not None
    recipe = open_bundle(path).manifest.recipe
    images = (start.dataset, start.train_per_class)
    assert (start.network, *images) == (recipe["network"], "fashion-mnist", recipe.get("train_per_class"))
    assert start.experiment == name.partition("/")[0]


def test_the_code_of_a_run_is_not_run_for_its_fine_tuning(
    tmp_path: Path, plan: Recipe, tiny: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path / "first", dataclasses.replace(plan, epochs=1), tiny)
    assert run("elastic-finetune", "--init", str(tmp_path / "first"), "--quiet") == 2
    assert f"Add --network {NETWORK} if the folder and this module are yours." in capsys.readouterr().err
    # a file of weights does not say what it was trained on: the recipe's own network and data are meant
    assert origin(str(tmp_path / "first" / "run.json")) is None
