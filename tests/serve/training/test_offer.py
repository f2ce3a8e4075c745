"""What may be trained: the names that the server repeats without torch are those of the training half."""

import asyncio
from pathlib import Path

import pytest

from stimcore import cli
from stimcore.errors import StimcoreError, UsageError
from stimcore.methods.table import METHODS
from stimcore.nets.catalogue import build
from stimcore.serve.errors import TooLarge
from stimcore.serve.limits import Limits
from stimcore.serve.training import offer
from stimcore.serve.training.offer import TrainingConfig, check_config, data_sources, is_in_catalogue, why_not
from stimcore.serve.training.plan import TrainingPlan, make_plan
from stimcore.serve.training.queue import TrainingQueue
from stimcore.train.__main__ import parser
from tests.serve.training_requests import make_pictures, run_request


def test_methods_are_those_of_the_training_half() -> None:
    assert sorted(offer.METHODS) == sorted(METHODS)


@pytest.mark.parametrize("network", [*offer.NETWORKS, "resnet26", "densenet-2-3-12-8-k12"])
def test_every_network_that_is_offered_exists(network: str) -> None:
    assert is_in_catalogue(network)
    assert build(network, input_shape=(1, 28, 28), num_classes=10).topology.num_blocks >= 3


@pytest.mark.parametrize(
    "network",
    ["resnet2", "resnet7", "resnet50", "resnet116", "resnet008", "resnet8\n", "os:system", "", "../resnet8", "resnet٨"],
)
def test_other_names_are_refused_without_importing_them(network: str, tmp_path: Path) -> None:
    config = TrainingConfig(allowed=True)
    with pytest.raises(UsageError, match="no network"):
        make_plan(run_request(network=network, dataset="fashion-mnist"), config, data_sources(config), Limits())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"dataset": "folder:/etc"}, "no data"),
        ({"dataset": "cifar10"}, "no data"),
        ({"method": "mine:Method"}, "no training method"),
        ({"epochs": 0}, "0 epochs"),
        ({"epochs": 201}, "201 epochs"),
        ({"train_per_class": 0}, "0 training images"),
        ({"train_per_class": 6001}, "6001 training images"),
        ({"seed": -1}, "seed -1"),
        ({"weight": 0.0, "method": "stimulative"}, "lambda 0.0"),
        ({"weight": float("inf"), "method": "stimulative"}, "lambda inf"),
        ({"weight": float("nan"), "method": "stimulative"}, "lambda nan"),
        ({"weight": 1.0}, "lambda for the method common"),
    ],
)
def test_what_is_not_offered_is_refused_in_one_sentence(change: dict[str, object], sentence: str) -> None:
    config = TrainingConfig(allowed=True)
    with pytest.raises(StimcoreError, match=sentence):
        make_plan(run_request(**({"dataset": "fashion-mnist"} | change)), config, data_sources(config), Limits())


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"epochs": 0}, UsageError),
        ({"epochs": -5}, UsageError),
        ({"train_per_class": 0}, UsageError),
        ({"epochs": 10**6}, TooLarge),
    ],
)
def test_too_few_is_not_too_large(change: dict[str, object], kind: type[Exception]) -> None:
    config = TrainingConfig(allowed=True)
    with pytest.raises(UsageError) as refused:
        make_plan(run_request(**({"dataset": "fashion-mnist"} | change)), config, data_sources(config), Limits())
    assert type(refused.value) is kind


def test_a_limit_of_epochs_holds() -> None:
    config = TrainingConfig(allowed=True)
    limits = Limits().with_texts(["training_epochs=3"])
    with pytest.raises(TooLarge, match="1 to 3"):
        make_plan(run_request(dataset="fashion-mnist", epochs=4), config, data_sources(config), limits)


def test_a_folder_is_offered_under_its_name_alone(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "my pictures", per_class=3)
    config = TrainingConfig(allowed=True, folders=(f"{folder}@16",))
    check_config(config)
    fashion, own = data_sources(config)
    assert (fashion.name, fashion.per_class) == ("fashion-mnist", 6000)
    assert (own.name, own.per_class, own.num_classes) == ("folder:my-pictures", 3, 2)
    assert own.argument == f"folder:{folder}@16"


@pytest.mark.parametrize(
    "config",
    [
        TrainingConfig(networks=("mine:net",)),
        TrainingConfig(allowed=True, folders=("/nowhere/at/all",)),
        TrainingConfig(allowed=True, networks=("mine",)),
        TrainingConfig(allowed=True, networks=("mine:net; rm",)),
        TrainingConfig(allowed=True, folders=("tests", "./tests@32")),
        TrainingConfig(allowed=True, networks=("mine:net", "theirs:net")),
        TrainingConfig(allowed=True, networks=("mine:resnet8",)),
    ],
)
def test_a_wrong_list_ends_the_start(config: TrainingConfig) -> None:
    with pytest.raises(UsageError):
        check_config(config)


def test_a_folder_is_not_called_like_a_data_set(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "fashion-mnist", per_class=3)
    with pytest.raises(UsageError, match="'fashion-mnist', as a data set is"):
        check_config(TrainingConfig(allowed=True, folders=(str(folder),)))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"train_per_class": 6000}, False),  # as many as the smallest class has, which is fewer than all in other data
        ({"weight": 0.12345699}, False),
        ({"seed": 1}, False),
        ({"epochs": 2}, False),
    ],
)
def test_two_requests_are_one_run_only_if_they_train_the_same(change: dict[str, object], same: bool) -> None:
    config = TrainingConfig(allowed=True)
    sources = data_sources(config)
    asked = {"dataset": "fashion-mnist", "method": "stimulative", "weight": 0.12345678}
    plan = make_plan(run_request(**asked), config, sources, Limits())
    other = make_plan(run_request(**(asked | change)), config, sources, Limits())
    assert plan.is_same(other) == same
    assert (plan.name == other.name) == same, "they would share a run folder"


def test_a_folder_of_another_network_is_not_taken_over(tmp_path: Path) -> None:
    async def submit(network: str, runs: Path) -> TrainingPlan:
        async def exported() -> None:
            """Nothing is exported here."""

        config = TrainingConfig(allowed=True, networks=(network,))
        queue = TrainingQueue(config, exported=tmp_path / "exported", runs=runs, limits=Limits(), on_export=exported)
        plan = await queue.submit(run_request(network=network, dataset="fashion-mnist"))
        queue.stop(plan.name)  # before it has begun
        await queue.close()
        return plan

    first = asyncio.run(submit("mine:net", tmp_path / "runs"))
    assert asyncio.run(submit("mine:net", tmp_path / "runs")) == first, "the same request finds its folder again"
    with pytest.raises(UsageError, match=f"the run {first.name} is one of the network mine:net"):
        asyncio.run(submit("theirs:net", tmp_path / "runs"))


def test_without_torch_the_sentence_has_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not(TrainingConfig(allowed=True)) == ""
    assert "--allow-training" in why_not(TrainingConfig())
    monkeypatch.setattr(cli, "has_torch", lambda: False)
    reason = why_not(TrainingConfig(allowed=True))
    assert cli.install_line("torch", public=True) in reason
    assert str(Path(cli.__file__).parents[1]) not in reason, "visitors learn where the server is installed"


@pytest.mark.parametrize("network", ["resnet8", "resnet14", "resnet20", "mobilenetv3-w0.5"])
def test_the_commands_are_those_of_the_command_line(network: str, tmp_path: Path) -> None:
    config = TrainingConfig(allowed=True)
    request = run_request(network=network, dataset="fashion-mnist", method="stimulative", weight=5, train_per_class=600)
    plan = make_plan(request, config, data_sources(config), Limits())
    options = parser().parse_args(plan.training(tmp_path, resume=True)[1:])
    assert (options.network, options.weights, options.train_per_class, options.resume) == (network, [5.0], 600, True)
    assert options.run_dir == tmp_path / plan.experiment / plan.run
    assert plan.name == f"{network}-fashion-mnist-600-per-class-1-epoch/stimulative-lambda5-0"
    other = make_plan(request.model_copy(update={"weight": None, "seed": 2}), config, data_sources(config), Limits())
    assert (other.experiment, other.bundle) == (plan.experiment, "stimulative-seed2")
