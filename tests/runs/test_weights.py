"""Files of weights as training scripts write them: wrappers, containers, averages, safetensors, and what is refused by name."""

import argparse
import itertools
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from stimcore import cli
from stimcore.bench.curves import striped_images as pictures
from stimcore.convert import __main__ as convert
from stimcore.errors import CheckpointError, UsageError
from stimcore.nets.catalogue import build
from stimcore.runs import checkpoint
from stimcore.runs.convert import read_weights
from stimcore.runs.trained_run import TrainedRun, open_run
from stimcore.runs.weights import AVERAGES, CONTAINERS, PREFIXES, rename
from stimcore.train.seeds import layers_seeded
from tests.train.conftest import write_folder

NETWORK = "tests.nets.own_network:residual"
SHAPE = (1, 10, 10)


def weights(seed: int = 0) -> dict[str, Tensor]:
    with layers_seeded(seed, "weights"):
        return dict(build(NETWORK, input_shape=SHAPE, num_classes=3).module.state_dict())


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    write_folder(root, pictures(6), "train")
    write_folder(root, pictures(3, seed=1), "test")
    return root


def converted(tmp_path: Path, images: Path, value: Any, *extra: str, name: str = "weights.pt") -> TrainedRun:
    file = tmp_path / name
    if name.endswith(".safetensors"):
        safetensors.torch.save_file(value, file)
    else:
        torch.save(value, file)
    argv = [str(file), "--network", NETWORK, "--run-dir", str(tmp_path / "run"), "--dataset", f"folder:{images}"]
    assert convert.main([*argv, "--mean", "0.5", "--std", "0.25", *extra]) == 0
    return open_run(tmp_path / "run", trust_code=True)


def equal(trained: TrainedRun, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, state[key]) for key, value in trained.net.module.state_dict().items())


def test_every_order_of_two_prefixes_is_taken_off() -> None:
    state = weights()
    for first, second in itertools.permutations(PREFIXES, 2):
        renamed = rename({f"{first}{second}{key}": value for key, value in state.items()}, state, "file")
        assert renamed.tensors.keys() == state.keys()
        assert not renamed.outside
    all_of_them = "".join(PREFIXES)
    assert rename({all_of_them + key: value for key, value in state.items()}, state, "file").tensors.keys() == state.keys()


def test_a_mixture_of_prefixes_and_wrapped_layers(tmp_path: Path, images: Path) -> None:
    state = weights()
    prefixes = itertools.cycle(["", "module.", "_orig_mod.module.", "model.", "net.backbone."])
    mixed = {f"{prefix}{key}": value for prefix, (key, value) in zip(prefixes, state.items(), strict=False)}
    mixed = {key.replace("1.conv.", "1._orig_mod.conv.").replace("2.norm.", "2.norm.module."): v for key, v in mixed.items()}
    assert any("._orig_mod.conv" in key for key in mixed)
    assert equal(converted(tmp_path, images, mixed), state)


@pytest.mark.parametrize("prefix", ["encoder.", "module.resnet.", "_orig_mod.net.student.", "feature_extractor.0."])
def test_any_prefix_that_most_keys_have_is_taken_off(
    prefix: str, tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Lightning module calls its network as its author likes."""
    state = {f"{prefix}{key}": value for key, value in weights().items()} | {"loss.weight": torch.ones(3)}
    state = {key.replace("1.conv.", "1._orig_mod.conv."): value for key, value in state.items()}
    assert equal(converted(tmp_path, images, {"state_dict": state}), weights())
    assert "left out, as these keys lie outside of the network: loss.weight" in capsys.readouterr().out


def test_two_networks_under_names_of_their_author_are_not_mixed(tmp_path: Path, images: Path) -> None:
    both = {f"student.{k}": v for k, v in weights(0).items()} | {f"teacher.{k}": v for k, v in weights(1).items()}
    with pytest.raises(CheckpointError, match=r"holds 0.weight twice, as student.0.weight and teacher.0.weight, with diff"):
        converted(tmp_path, images, both)
    known = {k.replace("student.", "model."): v for k, v in both.items()}
    assert equal(converted(tmp_path, images, known), weights())


@pytest.mark.parametrize(
    "wrapper", ["_orig_mod", "_forward_module", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"]
)
def test_wrappers_of_single_blocks_are_taken_out(wrapper: str) -> None:
    """torch.compile, Fabric, DDP, FSDP and activation checkpointing of one block each, in a wrapped network or not."""
    state = weights()
    wrapped = {
        key.replace("1.conv.", f"1.{wrapper}.conv.").replace("2.norm.", f"2.{wrapper}.norm."): state[key] for key in state
    }
    assert wrapped.keys() != state.keys()
    assert rename(wrapped, state, "file").tensors.keys() == state.keys()
    assert rename({f"{wrapper}.{key}": wrapped[key] for key in wrapped}, state, "file").tensors.keys() == state.keys()


def test_a_network_keeps_sub_modules_that_are_called_like_prefixes() -> None:
    expected = ("backbone.conv.weight", "model.head.weight")
    state = {key: torch.ones(1) for key in expected}
    assert rename(state, expected, "file").tensors.keys() == state.keys()
    assert rename({f"module.{key}": value for key, value in state.items()}, expected, "file").tensors.keys() == state.keys()


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_alone_and_nested(tmp_path: Path, images: Path, container: str) -> None:
    state = weights()
    nested = {"acc": 93.1, "epoch": 7, "model": {container: {"state_dict": state}}}
    assert equal(converted(tmp_path, images, nested), state)
    torch.save({container: state, "optimizer": {"state": {}}}, tmp_path / "flat.pt")
    read = read_weights(str(tmp_path / "flat.pt"), NETWORK)
    assert (read.tensors.keys(), read.left_out) == (state.keys(), ("optimizer",))


@pytest.mark.parametrize("key", AVERAGES)
def test_averaged_weights_are_chosen_and_named(
    tmp_path: Path, images: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As torchvision's reference scripts and timm store them."""
    state, average = weights(0), weights(1)
    averaged = {"n_averaged": torch.tensor(3)} | {f"module.{name}": value for name, value in average.items()}
    value = {"model": state, key: averaged, "epoch": 3}
    assert equal(converted(tmp_path, images, value), state)
    out = capsys.readouterr().out
    assert f"left out, as these are other weights: {key} (--ema takes" in out
    assert "left out, as these are no weights: epoch" in out
    (tmp_path / "second").mkdir()
    assert equal(converted(tmp_path / "second", images, value, "--ema"), average)
    out = capsys.readouterr().out
    assert "the weights are an average over the steps" in out
    assert "other weights: model (leave out --ema" in out
    torch.save({key: {"model": averaged}}, tmp_path / "alone.pt")
    assert read_weights(str(tmp_path / "alone.pt"), NETWORK).averaged


def test_averages_that_are_not_there_are_not_made_up(tmp_path: Path) -> None:
    torch.save({"model": weights(), "epoch": 3}, tmp_path / "plain.pt")
    with pytest.raises(CheckpointError, match=r"plain.pt has no averaged weights; allowed: ema or .*Leave out --ema"):
        read_weights(str(tmp_path / "plain.pt"), NETWORK, averaged=True)
    with pytest.raises(UsageError, match="averaged weights of torchvision's DEFAULT"):
        read_weights("torchvision:DEFAULT", "resnet18", averaged=True)


def test_what_torchvisions_reference_script_saves(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its command line lies next to the weights: references/classification/train.py, `checkpoint = {...}`."""
    with layers_seeded(0, "weights"):
        module = build(NETWORK, input_shape=SHAPE, num_classes=3).module
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    checkpoint = {
        "model": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 30).state_dict(),
        "epoch": 89,
        "args": argparse.Namespace(
            data_path="/data", lr=0.1, world_size=8, lr_steps=[30, 60], model_ema=True, nested={"a": None}
        ),
        "model_ema": AveragedModel(module).state_dict(),
    }
    assert equal(converted(tmp_path, images, checkpoint), dict(module.state_dict()))
    assert "no weights: optimizer, lr_scheduler, epoch, args" in capsys.readouterr().out


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.target), "w")


class Settings(argparse.Namespace):
    """Not the class that is allowed."""


@pytest.mark.parametrize("hidden_in", ["attribute", "list in an attribute", "subclass"])
def test_a_namespace_runs_nothing(tmp_path: Path, hidden_in: str) -> None:
    file, trace = tmp_path / "bomb.pt", tmp_path / "ran"
    makers: dict[str, Callable[[], argparse.Namespace]] = {
        "attribute": lambda: argparse.Namespace(hook=Bomb(trace)),
        "list in an attribute": lambda: argparse.Namespace(hooks=[{"a": Bomb(trace)}]),
        "subclass": lambda: Settings(lr=0.1),
    }
    torch.save({"model": weights(), "args": makers[hidden_in]()}, file)
    with pytest.raises(CheckpointError, match=r"it holds \S+, and not tensors alone"):
        read_weights(str(file), NETWORK)
    assert not trace.exists()
    # the permission ends with the call
    torch.save(argparse.Namespace(lr=0.1), file)
    with pytest.raises(Exception, match="Namespace"):
        torch.load(file, weights_only=True)


def test_a_torch_file_may_have_the_name_of_a_safetensors_file(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "weights.safetensors")
    assert read_weights(str(tmp_path / "weights.safetensors"), NETWORK).tensors.keys() == weights().keys()


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin"])
def test_safetensors_are_read_by_their_content(tmp_path: Path, images: Path, name: str) -> None:
    state = {f"model.{key}": value for key, value in weights().items()}
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").rename(tmp_path / name)
    assert read_weights(str(tmp_path / name), NETWORK).tensors.keys() == state.keys()
    if name.endswith(".safetensors"):
        assert equal(converted(tmp_path, images, state, name="again.safetensors"), weights())
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-7])
    with pytest.raises(CheckpointError, match="can't be read as safetensors"):
        read_weights(str(tmp_path / name), NETWORK)


def test_weights_are_written_for_other_programs(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = weights()
    converted(tmp_path, images, state)
    target = tmp_path / "mine.safetensors"
    assert convert.main([str(tmp_path / "run"), "--to", str(target)]) == 0
    assert f"{target}: the weights of " in capsys.readouterr().out
    loaded = safetensors.torch.load_file(target)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())
    content = target.read_bytes()  # the length of the header, the header as JSON, the numbers
    described = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    assert (described["network"], described["num_classes"], described["mean"]) == (NETWORK, "3", "0.5")
    assert len(described["checkpoint_sha256"]) == 64
    assert convert.main([str(tmp_path / "run"), "--to", str(tmp_path / "mine.pt")]) == 0
    assert torch.load(tmp_path / "mine.pt", weights_only=True).keys() == state.keys()
    with pytest.raises(UsageError, match="mine.safetensors exists"):
        convert.main([str(tmp_path / "run"), "--to", str(target)])
    with pytest.raises(UsageError, match=r"a name that ends with .safetensors, .pt or .pth"):
        convert.main([str(tmp_path / "run"), "--to", "mine.onnx"])
    with pytest.raises(CheckpointError, match="is not a run folder"):
        convert.main([str(tmp_path), "--to", str(tmp_path / "new.pt")])
    with pytest.raises(UsageError, match="--to with --network or --run-dir"):
        convert.main([str(tmp_path / "run"), "--to", str(tmp_path / "new.pt"), "--network", NETWORK])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits on the size of files")
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_weights_that_cannot_be_written_end_in_one_sentence(
    suffix: str, tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit on the size of this process's files stands for the full disk."""
    import resource

    converted(tmp_path, images, weights())
    target = tmp_path / "new" / f"mine{suffix}"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    capsys.readouterr()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(SystemExit) as ended:
            cli.run(convert.main, [str(tmp_path / "run"), "--to", str(target)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: File too large ({target}).\n"
    assert list(target.parent.iterdir()) == []
    assert convert.main([str(tmp_path / "run"), "--to", str(target)]) == 0


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda tensor: tensor.to_sparse(), "sparse_coo"),
        (lambda tensor: tensor.reshape(len(tensor), -1).to_sparse_csr(), "sparse_csr"),
        (lambda tensor: tensor.to("meta"), "without numbers"),
        (lambda tensor: torch.nested.nested_tensor([tensor, tensor]), "nested"),
        (lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), "quantised"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_that_are_not_plain_numbers_are_refused(
    change: Callable[[Tensor], Tensor], kind: str, tmp_path: Path, images: Path
) -> None:
    state = weights()
    key = next(key for key, value in state.items() if value.dim() > 1)
    odd = state | {key: change(state[key])}
    try:
        torch.save(odd, tmp_path / "probe.pt")
    except (RuntimeError, NotImplementedError):
        pytest.skip("this torch can't save such a tensor")
    message = rf"holds {key} as a tensor that is {kind}|can't be read as weights"  # by torch, where it refuses them itself
    with pytest.raises(CheckpointError, match=message):
        converted(tmp_path, images, odd)
    assert not (tmp_path / "run").exists()
    converted(tmp_path, images, state)
    (path,) = checkpoint.list_paths(tmp_path / "run")
    checkpoint.save(tmp_path / "run", replace(checkpoint.load(path), network=odd))
    with pytest.raises(CheckpointError, match=rf"holds {key} as a tensor that is {kind}|can't be read as"):
        open_run(tmp_path / "run", trust_code=True)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(np.nan, torch.float32), (np.inf, torch.float32), (-np.inf, torch.float16), (1e300, torch.float64)],
)
def test_weights_that_are_not_finite_are_refused_by_name(
    tmp_path: Path, images: Path, value: float, dtype: torch.dtype
) -> None:
    state = weights()
    key = "2.norm.running_var"
    state[key] = state[key].to(dtype)
    state[key][1] = value
    with pytest.raises(CheckpointError, match=rf"not finite: {key}\. Take an earlier"):
        converted(tmp_path, images, state)
    assert not (tmp_path / "run").exists()


def test_a_run_with_weights_that_are_not_finite_is_not_opened(tmp_path: Path, images: Path) -> None:
    converted(tmp_path, images, weights())
    path = tmp_path / "run" / "checkpoint-0000.pt"
    stored = torch.load(path, weights_only=True)
    stored["network"]["0.weight"][0] = np.nan
    torch.save(stored, path)
    with pytest.raises(CheckpointError, match="not finite: 0.weight"):
        open_run(tmp_path / "run", trust_code=True)


def test_quantised_weights_are_refused_by_name(tmp_path: Path, images: Path) -> None:
    state = weights()
    state["0.weight"] = (100 * state["0.weight"]).to(torch.int8)
    with pytest.raises(CheckpointError, match="does not fit residual; not floating point: 0.weight is int8"):
        converted(tmp_path, images, state)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_counters_of_a_profiler_are_left_out_and_named(
    tmp_path: Path, images: Path, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """thop registers two tensors in every layer, which end up in weights that are saved after it."""
    names = [f"{place}total_{what}" for place in ("", "0.") for what in ("ops", "params")]
    counters = dict.fromkeys(names, torch.zeros(1, dtype=torch.float64))
    state = {f"{prefix}{key}": value for key, value in {**weights(), **counters}.items()}
    assert equal(converted(tmp_path, images, state), weights())
    shown = capsys.readouterr().out
    assert f"left out, as these keys lie outside of the network: {prefix}total_ops" in shown


def test_keys_outside_of_the_network_are_left_out_and_named(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Lightning module has its loss and its metrics in the same state dict."""
    state = {f"model.{key}": value for key, value in weights().items()} | {"criterion.weight": torch.ones(3)}
    assert equal(converted(tmp_path, images, {"state_dict": state}), weights())
    assert "left out, as these keys lie outside of the network: criterion.weight" in capsys.readouterr().out
    (tmp_path / "inside").mkdir()
    with pytest.raises(CheckpointError, match="unknown: extra.weight"):
        converted(tmp_path / "inside", images, {"state_dict": state | {"model.extra.weight": torch.ones(3)}})


def test_two_networks_in_one_state_dict_are_not_mixed(tmp_path: Path, images: Path) -> None:
    both = {f"model.{k}": v for k, v in weights(0).items()} | {f"net.{k}": v for k, v in weights(1).items()}
    with pytest.raises(CheckpointError, match=r"holds 0.weight twice, as model.0.weight and net.0.weight, with different"):
        converted(tmp_path, images, both)
    same = {f"{prefix}{k}": v for k, v in weights(0).items() for prefix in ("model.", "net.")}
    assert equal(converted(tmp_path, images, same), weights())


def test_missing_statistics_are_named(tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {key: value for key, value in weights().items() if "running" not in key and "num_batches" not in key}
    trained = converted(tmp_path, images, state)
    assert torch.equal(trained.net.module.state_dict()["2.norm.running_var"], torch.ones(4))
    out = capsys.readouterr().out
    assert "missing in the file and set to 0: num_batches_tracked of 3 batch norms" in out
    assert "missing in the file: the statistics of all 3 batch norms" in out
    (tmp_path / "part").mkdir()
    part = {key: value for key, value in weights().items() if key != "2.norm.running_var"}
    with pytest.raises(CheckpointError, match="missing: 2.norm.running_var"):
        converted(tmp_path / "part", images, part)


@pytest.mark.parametrize("number", [np.float64(93.1), np.float32(93.1), np.int64(7), np.bool_(True)])
@pytest.mark.parametrize("module", [b"numpy._core", b"numpy.core"])
def test_numbers_of_numpy_next_to_the_weights(number: np.generic, module: bytes, tmp_path: Path) -> None:
    """An accuracy that numpy computed, written by numpy 2 and by numpy 1."""
    state, file = weights(), tmp_path / "weights.pt"
    torch.save({"net": state, "acc": number}, file, _use_new_zipfile_serialization=False)
    file.write_bytes(re.sub(rb"numpy\._?core", module, file.read_bytes()))
    read = read_weights(str(file), NETWORK)
    assert (read.tensors.keys(), read.left_out) == (state.keys(), ("acc",))
