"""Checkpoints of other programs: what is read, what is refused, and that imported networks equal plain model code."""

import os
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor
from torch.nn import functional

from stimcore.convert import __main__ as convert
from stimcore.data.folder import image_folder
from stimcore.data.normalise import IMAGENET, Normalisation
from stimcore.errors import CheckpointError, UsageError
from stimcore.nets.catalogue import build
from stimcore.reference.evaluate import evaluate
from stimcore.runs.convert import read_weights
from stimcore.runs.run import Run
from stimcore.runs.trained_run import open_run
from tests.bundles import random_net, write_pictures

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("STIMCORE_SHARED", ROOT.parent / "shared"))
PUBLIC = {"resnet20": "resnet20-12fca82f.th", "resnet32": "resnet32-d509ac18.th"}
WHOLE_SET = {"resnet20": 8103, "resnet32": 8256}
"""Right of 10,000, seen with `plain_logits` below."""


def plain_logits(state: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """A CIFAR ResNet straight from its checkpoint: He et al., section 4.2, option A. Shares no code with the program."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, mean, var, weight, bias)

    x = functional.relu(norm(functional.conv2d(images, state["conv1.weight"], padding=1), "bn1"))
    for layer in (1, 2, 3):
        for number in range(sum(key.startswith(f"layer{layer}.") and key.endswith("conv1.weight") for key in state)):
            name = f"layer{layer}.{number}"
            stride = 2 if layer > 1 and number == 0 else 1
            y = functional.relu(
                norm(functional.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1")
            )
            y = norm(functional.conv2d(y, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            missing = y.shape[1] - x.shape[1]
            shortcut = functional.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, missing // 2, missing // 2))
            x = functional.relu(y + shortcut)
    return functional.linear(functional.avg_pool2d(x, x.shape[-1]).flatten(1), state["linear.weight"], state["linear.bias"])


@torch.no_grad()
def plain_correct(file: Path, pixels: np.ndarray, labels: np.ndarray) -> int:
    """Return how many images plain model code classifies correctly, normalised with torchvision's transform."""
    state = torch.load(file, map_location="cpu", weights_only=True)["state_dict"]
    state = {key.removeprefix("module."): value for key, value in state.items()}
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    right = 0
    for start in range(0, len(pixels), 500):
        batch = normalise(torch.from_numpy(pixels[start : start + 500]).float() / 255)
        right += int((plain_logits(state, batch).argmax(1).numpy() == labels[start : start + 500]).sum())
    return right


def unpacked(target: Path, *, per_class: int | None) -> Path:
    """The shared images, or so many of every class; skips where they are absent."""
    archive = SHARED / "data" / "cifar10-jpeg.tar.gz"
    if not archive.exists():
        pytest.skip(f"{archive.name} and the public checkpoints are not part of the project and are not here")
    with tarfile.open(archive) as packed:
        for item in packed:
            if per_class is None or (item.isfile() and int(Path(item.name).stem) < per_class):
                packed.extract(item, target, filter="data")
    return target


def check_imported(tmp_path: Path, pictures: Path, expected: Mapping[str, int] | None) -> None:
    test = image_folder(pictures).test
    for network, file in PUBLIC.items():
        checkpoint = SHARED / "data" / "pretrained" / file
        run_dir = tmp_path / network
        argv = [str(checkpoint), "--network", network, "--run-dir", str(run_dir), "--dataset", f"folder:{pictures}"]
        assert convert.main(argv) == 0
        trained = open_run(run_dir)
        run, net = trained.run, trained.net
        assert (run.method, run.label, run.mean, run.std) == ("imported", "imported weights", IMAGENET.mean, IMAGENET.std)
        own = evaluate(net, net.topology.full, test, Normalisation(run.mean, run.std), calibration=None).correct
        assert own == plain_correct(checkpoint, test.pixels, test.labels)
        assert expected is None or own == expected[network]


@pytest.mark.slow
def test_imported_networks_are_right_where_plain_code_is(tmp_path: Path) -> None:
    check_imported(tmp_path, unpacked(tmp_path / "pictures", per_class=30), None)


@pytest.mark.slow
def test_imported_networks_are_right_where_plain_code_is_on_all_images(tmp_path: Path) -> None:
    check_imported(tmp_path, unpacked(tmp_path / "pictures", per_class=None), WHOLE_SET)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, random_net("resnet20", 8, 0), side=8, train=20, test=20)
    return folder


def converted(tmp_path: Path, pictures: Path, state: Any, network: str = "resnet20", *extra: str) -> tuple[Run, Any]:
    """Save a checkpoint, convert it, and read the run back."""
    file = tmp_path / "weights.pt"
    torch.save(state, file)
    argv = [str(file), "--network", network, "--run-dir", str(tmp_path / "run"), "--dataset", f"folder:{pictures}", *extra]
    assert convert.main(argv) == 0
    trained = open_run(tmp_path / "run")
    return trained.run, trained.net


def weights(network: str = "resnet20") -> dict[str, Tensor]:
    return dict(random_net(network, 8, 3).module.state_dict())


def test_wrapped_and_prefixed_checkpoints(tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = weights()
    wrapped = {"epoch": 7, "model": {f"module.{key}": value for key, value in state.items()}}
    run, net = converted(tmp_path, pictures, wrapped, "resnet20", "--mean", "0.5,0.4,0.3", "--std", "0.2,0.2,0.2")
    assert all(torch.equal(value, state[key]) for key, value in net.module.state_dict().items())
    assert (run.mean, run.std) == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    assert run.source.startswith("weights.pt (sha256 ")
    assert "left out, as these are no weights: epoch" in capsys.readouterr().out


def test_old_checkpoints_without_counters(tmp_path: Path, pictures: Path) -> None:
    state = {key: value for key, value in weights().items() if not key.endswith("num_batches_tracked")}
    converted(tmp_path, pictures, state)


def test_torchvisions_old_densenet_names(tmp_path: Path, pictures: Path) -> None:
    """Its files have `denselayer1.norm.1.weight` where its modules have `denselayer1.norm1.weight`."""
    name = "densenet-2-2-k4"
    old = {}
    for key, value in weights(name).items():
        head, _, tail = key.partition("denselayer")
        old[key if not tail else head + "denselayer" + tail.replace("norm", "norm.").replace("conv", "conv.")] = value
    assert any("norm.1" in key for key in old)
    converted(tmp_path, pictures, old, name)


@pytest.mark.parametrize("network", ["resnet18", "mobilenetv3", "densenet121"])
def test_torchvisions_own_networks_load_key_for_key(network: str) -> None:
    plain = {"mobilenetv3": "mobilenet_v3_large"}.get(network, network)
    state = getattr(torchvision.models, plain)(weights=None).state_dict()
    net = build(network, input_shape=(3, 224, 224), num_classes=1000)
    assert {k: v.shape for k, v in net.module.state_dict().items()} == {k: v.shape for k, v in state.items()}
    net.module.load_state_dict(state)


def test_torchvisions_weights_by_name(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision reads its cache, so no network is needed; then a head of 1,000 classes is refused by name."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(state, cache / "resnet18-f37072fd.pth")
    read = read_weights("IMAGENET1K_V1", "resnet18")
    assert read.tensors.keys() == state.keys()
    assert not read.left_out
    assert read.source == "torchvision's resnet18 IMAGENET1K_V1"
    argv = ["--network", "resnet18", "--run-dir", str(tmp_path / "run"), "--dataset", f"folder:{pictures}"]
    with pytest.raises(CheckpointError, match=r"of another shape: conv1.weight is \(64, 3, 7, 7\).*fc.bias is \(1000,\)"):
        convert.main(["IMAGENET1K_V1", *argv])
    with pytest.raises(UsageError, match="no weights IMAGENET1K_V9 of resnet18; allowed: IMAGENET1K_V1"):
        convert.main(["IMAGENET1K_V9", *argv])
    assert not (tmp_path / "run").exists()


def missing(state: dict[str, Tensor]) -> None:
    del state["layer2.1.bn1.bias"]


def extra(state: dict[str, Tensor]) -> None:
    state["layer9.weight"] = torch.zeros(1)


def reshaped(state: dict[str, Tensor]) -> None:
    state["linear.weight"] = torch.zeros(7, 64)


def infinite(state: dict[str, Tensor]) -> None:
    state["linear.bias"] = torch.full((5,), float("nan"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (missing, "missing: layer2.1.bn1.bias"),
        (extra, "unknown: layer9.weight"),
        (infinite, "not finite: linear.bias"),
        (reshaped, r"of another shape: linear.weight is \(7, 64\) instead of \(5, 64\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path, pictures: Path, change: Any, message: str) -> None:
    state = weights()
    change(state)
    with pytest.raises(CheckpointError, match=message):
        converted(tmp_path, pictures, state)
    assert not (tmp_path / "run").exists()


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.target), "w")


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_file_that_would_run_code_is_refused_unrun(tmp_path: Path, how: str) -> None:
    file, trace = tmp_path / "bomb.pt", tmp_path / "ran"
    value = {"conv1.weight": torch.zeros(1), "extra": Bomb(trace)}
    if how == "torch":
        torch.save(value, file)
    else:
        file.write_bytes(pickle.dumps(value["extra"], protocol=2))
    with pytest.raises(CheckpointError, match=r"holds .*open, and not tensors alone\. Save the state dict"):
        read_weights(str(file), "resnet20")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": torch.zeros(1), "lr": 0.1, "name": "x"}, "what is no tensor: lr, name"),
        ([torch.zeros(1)], "holds a list"),
        ({}, "holds no tensors"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, value: Any, message: str) -> None:
    torch.save(value, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=message):
        read_weights(str(tmp_path / "odd.pt"), "resnet20")


def test_a_torn_file_is_refused(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "torn.pt")
    (tmp_path / "torn.pt").write_bytes((tmp_path / "torn.pt").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="can't be read as weights"):
        read_weights(str(tmp_path / "torn.pt"), "resnet20")


def test_wrong_use_is_refused_in_one_sentence(tmp_path: Path, pictures: Path) -> None:
    torch.save(weights(), tmp_path / "w.pt")
    argv = [str(tmp_path / "w.pt"), "--run-dir", str(tmp_path / "run"), "--dataset", f"folder:{pictures}"]
    with pytest.raises(UsageError, match="no network 'resnet21'"):
        convert.main([*argv, "--network", "resnet21"])
    with pytest.raises(UsageError, match="--mean 1,2 for images of 3 channels; allowed: 3 numbers"):
        convert.main([*argv, "--network", "resnet20", "--mean", "1,2"])
    with pytest.raises(UsageError, match="--std 0,1,1 .*each from 0.0001 to 10"):
        convert.main([*argv, "--network", "resnet20", "--std", "0,1,1"])
    with pytest.raises(UsageError, match="no --dataset for resnet50"):
        convert.main([*argv[:3], "--network", "resnet50"])
    with pytest.raises(UsageError, match="there is no file nowhere.pt"):
        convert.main(["nowhere.pt", *argv[1:], "--network", "resnet20"])
    assert convert.main([*argv, "--network", "resnet20"]) == 0
    with pytest.raises(UsageError, match="already holds a run"):
        convert.main([*argv, "--network", "resnet20"])


def test_a_conversion_that_was_killed_can_be_repeated(tmp_path: Path, pictures: Path) -> None:
    """Between the checkpoint and run.json; a folder with another checkpoint is still somebody's run."""
    torch.save(weights(), tmp_path / "w.pt")
    run = tmp_path / "run"
    argv = [str(tmp_path / "w.pt"), "--run-dir", str(run), "--dataset", f"folder:{pictures}", "--network", "resnet20"]
    assert convert.main(argv) == 0
    whole = {path.name: path.read_bytes() for path in run.iterdir()}
    (run / "run.json").rename(run / ".run.json.1.part")
    assert convert.main(argv) == 0
    assert {path.name for path in run.iterdir()} == whole.keys()
    (run / "run.json").unlink()
    (run / "checkpoint-0000.pt").rename(run / "checkpoint-0003.pt")
    with pytest.raises(UsageError, match="already holds a run"):
        convert.main(argv)


def test_as_a_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stimcore.convert", "nowhere.pt", "--network", "resnet20", "--run-dir", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no file nowhere.pt; allowed:")
