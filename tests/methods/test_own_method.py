"""`MODULE:CLASS` names a method of a user wherever a method is named; what is none is refused in one sentence."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from stimcore import cli
from stimcore.bench.curves import striped_images as pictures
from stimcore.bundle import open_bundle
from stimcore.errors import UsageError
from stimcore.export import __main__ as export
from stimcore.methods.base import Method
from stimcore.methods.table import is_method, make, restore
from stimcore.nets.logit_norm import LogitNorm
from stimcore.recipes.catalogue import recipe
from stimcore.recipes.recipe import PAPER, REDUCED
from stimcore.report.results import read_experiment
from stimcore.runs.run import Run, training_records
from stimcore.runs.trained_run import open_run
from stimcore.train import __main__ as train
from stimcore.train.request import with_true_label
from tests.bundles import QUICKLY
from tests.methods.own_method import Choosing
from tests.train.conftest import write_folder

HERE = "tests.methods.own_method"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "nowhere_at_all:Method",
            "there is no method 'nowhere_at_all:Method': No module named 'nowhere_at_all'. Is the module",
        ),
        (f"{HERE}:Missing", "there is no method 'tests.methods.own_method:Missing': module .* has no attribute 'Missing'"),
        (f"{HERE}:Plain", "'tests.methods.own_method:Plain' is no training method; allowed: a dataclass that inherits from"),
        (f"{HERE}:NUMBER", "is no training method"),
        (f"{HERE}:Unfinished", "the method 'tests.methods.own_method:Unfinished' has no function step"),
        (f"{HERE}:Demanding", "can't be made: .*'depth'. Give the option with --option NAME=VALUE"),
        (f"{HERE}:Unstorable", r"has blocks=frozenset\(\{1\}\), which can't be written into run.json; allowed: numbers, texts"),
        ("comon", "there is no method 'comon'; allowed: common, .*, MODULE:CLASS for your own"),
        ("../x:y", "there is no method"),
    ],
)
def test_what_is_no_method_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        make(name, {})


def test_a_module_that_fails_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_method.py").write_text("def oops(:\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="there is no method 'broken_method:Oops': .*invalid syntax|expected"):
        make("broken_method:Oops", {})


def test_an_option_may_be_one_of_some_words() -> None:
    assert make(f"{HERE}:Choosing", {"kind": "both", "number": "2"}) == Choosing(kind="both", number=2)
    for given, allowed in (({"kind": "middle"}, "first or last or both"), ({"number": 3}, "1 or 2")):
        with pytest.raises(UsageError, match=f"for {HERE}:Choosing; allowed: {allowed}"):
            make(f"{HERE}:Choosing", given)


def test_options_are_those_of_the_class() -> None:
    method = make(f"{HERE}:Mixed", {"share": 2})
    assert isinstance(method, Method)
    assert dataclasses.asdict(method) == {"share": 2}  # type: ignore[call-overload]  # every method is a dataclass
    assert restore(f"{HERE}:Mixed", {}) == make(f"{HERE}:Mixed", {"share": 0.5})
    with pytest.raises(UsageError, match="Mixed has no option weight; allowed: share"):
        make(f"{HERE}:Mixed", {"weight": 1})
    with pytest.raises(UsageError, match="share='much' for .*Mixed; allowed: a number"):
        make(f"{HERE}:Mixed", {"share": "much"})
    assert is_method(f"{HERE}:Mixed")
    assert not is_method("imported")


def test_an_own_method_is_not_the_papers() -> None:
    paper = recipe("mobilenetv3-cifar100")
    assert (paper.label, with_true_label(paper, f"{HERE}:Mixed", {}).label) == (PAPER, REDUCED)


def run(*argv: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.run(train.main, argv)
    return int(ended.value.code or 0)


def test_an_own_method_and_recipe_go_the_whole_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained, resumed, exported and reported; the wrapped network is wrapped again when the run is opened."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "pictures", pictures(48), "train")
    write_folder(tmp_path / "pictures", pictures(12, seed=1), "test")
    (tmp_path / "mine.toml").write_text(
        f"""network = "tests.nets.own_network:residual"
dataset = "folder:{tmp_path / "pictures"}"
epochs = 2
batch_size = 16
learning_rate = 0.002
optimizer = "adamw"
betas = [0.8, 0.99]
weight_decay = 0.01

[options."{HERE}:Normalised"]
share = 0.25
""",
        encoding="utf-8",
    )
    command = ["--recipe", "mine.toml", "--method", f"{HERE}:Normalised", "--device", "cpu", "--quiet"]
    assert run(*command) == 0, capsys.readouterr().err
    folder = tmp_path / "runs" / "mine" / "Normalised-0"
    stored = Run.read(folder)
    assert (stored.method, stored.name, stored.label) == (f"{HERE}:Normalised", "Normalised", "own recipe")
    assert stored.options == {"share": 0.25}
    assert (stored.recipe["optimizer"], stored.recipe["betas"], stored.recipe["weight_decay"]) == ("adamw", [0.8, 0.99], 0.01)
    assert {"loss", "main_ce", "subnet_ce"} == set(training_records(folder)[-1]["losses"])
    assert run(*command, "--resume", "--epochs", "3") == 0, capsys.readouterr().err
    net = open_run(folder, trust_code=True).net
    assert any(isinstance(layer, LogitNorm) for layer in net.head.modules())
    assert net(torch.zeros(1, 1, 10, 10)).shape == (1, 3)
    argv = [str(folder), "--out", str(tmp_path / "exported" / "mine"), "--subnets", "main", "--trust-code", "--quiet", *QUICKLY]
    assert export.main(argv) == 0
    bundle = open_bundle(tmp_path / "exported" / "mine" / "Normalised")
    assert bundle.manifest.method == f"{HERE}:Normalised"
    assert json.loads((bundle.path / "manifest.json").read_bytes())["recipe"]["optimizer"] == "adamw"
    assert list(read_experiment(bundle.experiment.path).methods) == [f"{HERE}:Normalised"]
    assert run(*command[:2], "--method", f"{HERE}:Silent", "--epochs", "1", "--device", "cpu", "--quiet") == 2
    assert "step of Silent returned total; allowed: losses by name, 'loss' among them" in capsys.readouterr().err
