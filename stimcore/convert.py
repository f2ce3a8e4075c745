"""`python -m stimcore.convert`: an outside checkpoint becomes a run folder, which everything else reads.

Only tensors are read (`weights_only=True`), never arbitrary pickles.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from stimcore import cli, files
from stimcore.data.sources import load
from stimcore.errors import CheckpointError, Unavailable, UsageError
from stimcore.nets.catalogue import build, native_shape
from stimcore.runs import checkpoint
from stimcore.runs.machine import describe
from stimcore.runs.run import Run
from stimcore.runs.trained_run import load_weights

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Normalisation of torchvision's weights, and of the CIFAR ResNets of the repository that the paper uses (C.4)."""
WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts put the weights beside their own numbers."""
_TORCHVISION = re.compile(r"[A-Z][A-Z0-9]*_[A-Z0-9_]+\Z")
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)")
_GLOBAL = re.compile(r"GLOBAL (\S+)")


def main(argv: Sequence[str]) -> int:
    """Converts one checkpoint."""
    line = parser()
    options = line.parse_args(argv)
    if (options.run_dir / "run.json").exists() or checkpoint.listed(options.run_dir):
        raise UsageError(f"{options.run_dir} already holds a run", todo="Give another folder with --run-dir.")
    shape, classes, dataset = _images(options.network, options.dataset, options.data_root)
    mean, std = _normalisation(options.mean, options.std, shape[0])
    state, left_out, source = read(options.checkpoint, options.network)
    net = build(options.network, input_shape=shape, num_classes=classes)
    for key, value in net.module.state_dict().items():  # checkpoints older than this count do not have it
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, torch.zeros_like(value))
    load_weights(net, state, options.checkpoint)
    options.run_dir.mkdir(parents=True, exist_ok=True)
    own = {key: value.detach().clone() for key, value in net.module.state_dict().items()}
    checkpoint.save(options.run_dir, checkpoint.Checkpoint(epoch=0, network=own, auxiliary={}, optimizer={}, scaler={}))
    Run(
        network=options.network,
        input_shape=shape,
        num_classes=classes,
        method="imported",
        seed=0,
        dataset=dataset,
        data_root=None if options.data_root is None else str(options.data_root),
        mean=mean,
        std=std,
        options={},
        recipe={},
        source=source,
        machine=describe(torch.device("cpu")),
    ).write(options.run_dir)
    print(f"{options.run_dir}: {options.network} with {len(own)} tensors from {source}")
    print(f"images: {dataset}, {'x'.join(map(str, shape))}, {classes} classes, mean {_listed(mean)}, std {_listed(std)}")
    if left_out:
        print(f"left out, as these are no weights: {', '.join(left_out)}")
    return 0


def parser() -> cli.Parser:
    """The command line."""
    line = cli.Parser(
        prog="python -m stimcore.convert",
        description="Make a run folder of an outside checkpoint: export, sweep and report then read it like a trained run.",
    )
    line.add_argument("checkpoint", metavar="CHECKPOINT", help="a file of weights, or torchvision's name: IMAGENET1K_V2")
    line.add_argument("--network", required=True, metavar="NAME", help="a name that 'python -m stimcore.nets' lists")
    line.add_argument("--run-dir", required=True, type=Path, metavar="DIR", help="run folder; must not hold a run yet")
    line.add_argument(
        "--dataset", metavar="DATA", help="images to evaluate on, folder:PATH[@PIXELS] for your own (CIFAR ResNets: cifar10)"
    )
    line.add_argument("--data-root", type=Path, metavar="DIR", help="where the data set is, or is downloaded to")
    for name, values, what in (("--mean", MEAN, "subtracted from"), ("--std", STD, "divided out of")):
        line.add_argument(
            name, metavar="V,V,V", help=f"per channel, {what} pixels in [0, 1] (default, for colour: {_listed(values)})"
        )
    return line


def read(name: str, network: str) -> tuple[dict[str, Tensor], list[str], str]:
    """The tensors of a checkpoint under the catalogue's keys.

    Args:
        name: A file, or torchvision's name of weights, which torchvision then downloads.
        network: Name in the catalogue.

    Returns:
        Key -> tensor; names of what lay beside the weights; where they came from, with the file's sha256.

    Raises:
        CheckpointError: It can't be read, or holds something else than tensors; names it.
        UsageError: There is neither such a file nor such weights.
        Unavailable: torchvision's weights could not be downloaded.
    """
    path = Path(name)
    if path.is_file():
        found, left_out = _weights(_loaded(path), name)
        source = f"{path.name} (sha256 {files.sha256(path)})"
    elif _TORCHVISION.match(name):
        found, left_out, source = _downloaded(name, network), [], f"torchvision's {network} {name}"
    else:
        raise UsageError(f"there is no file {name}", allowed="a file of weights, or torchvision's name such as IMAGENET1K_V1")
    if all(key.startswith("module.") for key in found):
        found = {key.removeprefix("module."): value for key, value in found.items()}
    return {_OLD_DENSENET.sub(r"\1", key): value for key, value in found.items()}, left_out, source


def _loaded(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as reason:
        names = sorted(set(_GLOBAL.findall(str(reason))))
        what = f"it holds {', '.join(names)}, and not tensors alone" if names else type(reason).__name__
        raise CheckpointError(
            f"{path} can't be read as weights: {what}", todo="Save the state dict alone: torch.save(net.state_dict(), FILE)."
        ) from reason


def _weights(value: Any, name: str) -> tuple[Mapping[str, Tensor], list[str]]:
    """The mapping of tensors in what was read, and the names of what lay beside it."""
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{name} holds a {type(value).__name__}", allowed="a state dict: names with tensors")
    inside = [key for key in WRAPPERS if isinstance(value.get(key), Mapping)]
    weights = value[inside[0]] if inside else value
    others = [str(key) for key, item in weights.items() if not isinstance(item, Tensor)]
    if others or not weights:
        what = "no tensors" if not weights else f"what is no tensor: {', '.join(others[:8])}"
        raise CheckpointError(f"{name} holds {what}", allowed="a state dict, alone or as " + " or ".join(WRAPPERS))
    return weights, [str(key) for key in value if inside and key != inside[0]]


def _downloaded(name: str, network: str) -> Mapping[str, Tensor]:
    model = "mobilenet_v3_large" if network == "mobilenetv3" else network
    try:
        weights = get_model_weights(model)
    except ValueError as reason:
        raise UsageError(f"torchvision has no weights of {network}", allowed="a file of weights") from reason
    if name not in weights.__members__:
        raise UsageError(f"torchvision has no weights {name} of {network}", allowed=", ".join(weights.__members__))
    try:
        found: Mapping[str, Tensor] = weights[name].get_state_dict(progress=False, check_hash=True, weights_only=True)
    except OSError as reason:
        raise Unavailable(
            f"torchvision's {network} {name} could not be downloaded ({reason})",
            todo=f"Download {weights[name].url} elsewhere and give the file as CHECKPOINT.",
        ) from reason
    return found


def _images(network: str, dataset: str | None, data_root: Path | None) -> tuple[tuple[int, int, int], int, str]:
    """Image shape, number of classes and name of the data set."""
    if dataset is not None:
        found = load(dataset, data_root)
        return found.image_shape, len(found.classes), dataset
    shape, classes = native_shape(network)
    if classes != 10:
        raise UsageError(f"no --dataset for {network}", allowed="folder:PATH@224 for a folder of images, or a data set's name")
    return shape, classes, "cifar10"


def _normalisation(mean: str | None, std: str | None, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    found = []
    for option, text, default in (("--mean", mean, MEAN), ("--std", std, STD)):
        try:
            values = default if text is None else tuple(float(part) for part in text.split(","))
        except ValueError:
            values = ()
        if len(values) != channels or not all(abs(v) < 1e6 for v in values) or (option == "--std" and not min(values) > 0):
            raise UsageError(
                f"{option} {text or 'not given'} for images of {channels} channels",
                allowed=f"{channels} numbers between commas" + (", each more than 0" if option == "--std" else ""),
            )
        found.append(values)
    return found[0], found[1]


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


if __name__ == "__main__":
    cli.run(main)
