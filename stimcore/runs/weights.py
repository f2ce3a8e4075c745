"""Files of weights that other programs wrote: which entry holds the weights, and what their keys are called here.

Training scripts store weights in many shapes: alone or next to the state of the optimiser, a second time as an average over
steps, under keys that wrappers such as DataParallel, torch.compile and Lightning have lengthened. Only tensors, plain values,
numpy's numbers and `argparse.Namespace` are read (`weights_only=True`), so that a file from elsewhere can't run code.
"""

import argparse
import re
import zipfile
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from stimcore import files
from stimcore.errors import CheckpointError

CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "network", "module")
"""Keys under which training scripts store the weights, next to other values."""
AVERAGES = ("ema", "model_ema", "ema_model", "ema_state_dict", "state_dict_ema")
"""Keys under which they store an average of the weights over the steps."""
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "_forward_module.", "backbone.")
"""What wrappers put in front of keys: DataParallel, torch.compile, Lightning and Fabric, and scripts."""
_INSIDE = re.compile(r"(?<=\.)(?:_orig_mod|_forward_module|_fsdp_wrapped_module|_checkpoint_wrapped_module|module)\.")
"""What wrappers of single layers put in the middle of keys."""
_COUNTERS = ("n_averaged",)
"""Tensors that averages of weights have, which are no weights."""
_PROFILES = ("total_ops", "total_params")
"""Names of the tensors in which the profiler thop counts in every layer, and which it leaves in saved weights."""
_DEEPEST = 4
"""Containers in containers that are looked into."""
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)")
"""Keys of torchvision's DenseNet files, which write `norm.1` where its modules have `norm1`."""
_GLOBAL = re.compile(r"GLOBAL (\S+)")
"""What torch's error message calls an object that is not a tensor."""


class _Number:
    """Stands for a number of numpy, or its type: numpy's own functions trust what a file says about memory."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_READ_TOO: list[Any] = [argparse.Namespace]
_READ_TOO += [(_Number, f"numpy.{name}") for name in ("dtype", "core.multiarray.scalar", "_core.multiarray.scalar")]
"""What is read besides tensors and plain values. torchvision's reference scripts store their command line next to the weights,
and many others an accuracy that numpy computed. A Namespace gets attributes when it is read and runs nothing, and what its
attributes are is restricted in the same way."""
_OTHER_FILES = {
    rb"\s*<": ("a web page or another text", "Download the file itself."),
    rb"version https://git-lfs": ("a pointer of Git LFS to the file", "Get the file itself: git lfs pull."),
    rb"\s*[{[]": ("a JSON text, as the index of weights in several files is", "Save the weights as one file."),
    rb"\x93NUMPY": ("an array of numpy", ""),
    rb"\Z": ("an empty file", "Copy or download it again."),
}
"""Beginning of a file that is often given in the place of weights -> what it is, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The weights in a checkpoint.

    Attributes:
        name: The name under which they were asked for.
        tensors: Key -> tensor, with the keys of the file.
        left_out: Names of entries next to the weights that are no weights.
        other_weights: Names of entries that hold other weights than those that were taken: an average over steps, or the
            weights that it was made of.
        averaged: Whether the weights are an average over steps.
        source: The origin of the weights; for a file its name and SHA-256 hash.
    """

    name: str
    tensors: Mapping[str, Tensor]
    left_out: tuple[str, ...] = ()
    other_weights: tuple[str, ...] = ()
    averaged: bool = False
    source: str


@dataclass(frozen=True)
class Renamed:
    """Weights under the keys of a network.

    Attributes:
        tensors: Key of the network -> tensor; keys that the network doesn't have are among them.
        outside: Keys of the file that lie outside of the network: they lack the prefix that all of its weights have, or are a
            profiler's counters.
    """

    tensors: Mapping[str, Tensor]
    outside: tuple[str, ...] = ()


def read_file(path: Path, *, averaged: bool = False) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """Return the tensors in a file, and what else is known of them as arguments of `Weights`.

    Args:
        path: A file that `torch.save` or safetensors wrote.
        averaged: Take the average of the weights over the steps. Otherwise it is taken only where there is nothing else.

    Raises:
        CheckpointError: The file can't be read, holds something else than tensors, or has no average of the weights.
    """
    value = _load_safetensors(path) if _is_safetensors(path) else _load(path)
    if not isinstance(value, Mapping):
        raise CheckpointError(f"{path} holds a {type(value).__name__}", allowed="a state dict: names with tensors")
    state_dicts = _find(value)
    averages = [place for place in state_dicts if _is_average(place)]
    plain = [place for place in state_dicts if place not in averages]
    if averaged and not averages:
        raise CheckpointError(
            f"{path} has no averaged weights",
            allowed=" or ".join(AVERAGES) + " as the key of a state dict",
            todo="Leave out --ema to take the weights that it has.",
        )
    places = averages if averaged or not plain else plain
    if not places:
        raise CheckpointError(
            f"{path} holds {_what_else(value)}", allowed="a state dict, alone or as " + " or ".join((*CONTAINERS, *AVERAGES))
        )
    chosen = places[0]
    tensors = {str(key): item for key, item in state_dicts[chosen].items() if key not in _COUNTERS}
    tops = {place[0] for place in state_dicts if place}
    return tensors, {
        "left_out": tuple(str(key) for key in value if chosen and key not in tops),
        "other_weights": tuple(".".join(place) for place in state_dicts if place != chosen),
        "averaged": chosen in averages,
    }


def rename(tensors: Mapping[str, Tensor], expected: Collection[str], name: str) -> Renamed:
    """Return weights under the keys of a network, without what wrappers put in front of keys and between their parts.

    Every key is shortened by as many prefixes as it takes to become a key of the network, so that a network which has a
    sub-module `backbone` or `model` keeps it. A prefix is one of `PREFIXES`, or what stands in front of most of the network's
    keys: `self.encoder` of a script.

    Args:
        tensors: Key of the file -> tensor.
        expected: Keys of the network.
        name: The origin of the weights, for the error message.

    Raises:
        CheckpointError: Two keys with different tensors become the same key, or a tensor of the network is not plain numbers.

    Example:
        >>> weights = {"_orig_mod.module.fc.weight": torch.ones(1), "model.fc.bias": torch.ones(1)}
        >>> sorted(rename(weights, {"fc.weight", "fc.bias"}, "example").tensors)
        ['fc.bias', 'fc.weight']
    """
    renamed: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    prefixes: set[str] = set()
    rest: dict[str, str] = {}
    known = (*_own_prefixes(tensors, expected), *PREFIXES)
    for key in tensors:
        candidates = _candidates(key, known)
        fitting = next((candidate for candidate in candidates if candidate in expected), None)
        if fitting is None:
            rest[key] = candidates[-1]
            continue
        check_plain(tensors[key], key, name)
        if fitting in renamed and not _equal(renamed[fitting], tensors[key]):
            raise CheckpointError(
                f"{name} holds {fitting} twice, as {origin[fitting]} and {key}, with different values",
                todo="Save the state dict of one network alone.",
            )
        renamed[fitting], origin[fitting] = tensors[key], key
        prefixes.add(_prefix_of(key, known))
    alien = {key for key in rest if prefixes and "" not in prefixes and _prefix_of(key, known) not in prefixes}
    outside = tuple(key for key in rest if key in alien or key.rpartition(".")[2] in _PROFILES)
    for key, short in rest.items():
        if key not in outside:
            renamed.setdefault(short, tensors[key])
    return Renamed(renamed, outside)


def check_plain(tensor: Tensor, key: str, name: str) -> None:
    """Check that a tensor holds its numbers one by one: torch can neither compare nor copy all others as weights.

    Args:
        tensor: The tensor.
        key: Its key.
        name: The origin of the weights, for the error message.

    Raises:
        CheckpointError: It is sparse, nested or quantised, or it has a shape and no numbers (torch's device `meta`).
    """
    if tensor.is_nested:
        kind = "nested"
    elif tensor.layout is not torch.strided:
        kind = str(tensor.layout).removeprefix("torch.")
    elif tensor.is_meta:
        kind = "without numbers (on the device 'meta')"
    elif tensor.is_quantized:
        kind = "quantised"
    else:
        return
    raise CheckpointError(
        f"{name} holds {key} as a tensor that is {kind}", allowed="dense tensors", todo="Save the weights of a plain network."
    )


def _own_prefixes(tensors: Collection[str], expected: Collection[str]) -> tuple[str, ...]:
    """Return what stands in front of at least half of a network's keys, if `PREFIXES` alone do not lead to as many."""
    if 2 * sum(any(candidate in expected for candidate in _candidates(key, PREFIXES)) for key in tensors) >= len(expected):
        return ()
    places = Counter(
        key[: dot.end()] for key in tensors for dot in re.finditer(r"\.", key) if _INSIDE.sub("", key[dot.end() :]) in expected
    )
    return tuple(place for place, number in places.items() if 2 * number >= len(expected))


def _candidates(key: str, prefixes: Sequence[str]) -> list[str]:
    """Return a key and what is left of it without one prefix, without two, ..., each also without wrappers in the middle."""
    candidates = []
    while True:
        for candidate in (key, _OLD_DENSENET.sub(r"\1", key), _INSIDE.sub("", key)):
            if candidate not in candidates:
                candidates.append(candidate)
        prefix = next((prefix for prefix in prefixes if key.startswith(prefix) and key != prefix), None)
        if prefix is None:
            return candidates
        key = key.removeprefix(prefix)


def _prefix_of(key: str, prefixes: Sequence[str]) -> str:
    """Return the prefixes at the beginning of a key, all together."""
    rest = key
    while prefix := next((prefix for prefix in prefixes if rest.startswith(prefix)), None):
        rest = rest.removeprefix(prefix)
    return key[: len(key) - len(rest)]


def _equal(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other))


def _find(value: Mapping[Any, Any]) -> dict[tuple[str, ...], Mapping[str, Tensor]]:
    """Return place -> state dict, for every state dict in the content of a file; the place is empty for the content itself."""
    state_dicts: dict[tuple[str, ...], Mapping[str, Tensor]] = {}

    def look(place: tuple[str, ...], item: Mapping[Any, Any]) -> None:
        if item and all(isinstance(tensor, Tensor) for tensor in item.values()) and set(item) - set(_COUNTERS):
            state_dicts[place] = item
            return
        for key in (*CONTAINERS, *AVERAGES) if len(place) < _DEEPEST else ():
            if isinstance(item.get(key), Mapping):
                look((*place, key), item[key])

    look((), value)
    return state_dicts


def _is_average(place: tuple[str, ...]) -> bool:
    return any(key in AVERAGES for key in place)


def _what_else(value: Mapping[Any, Any]) -> str:
    """Return what a file holds that has no state dict."""
    inside = next((value[key] for key in (*CONTAINERS, *AVERAGES) if isinstance(value.get(key), Mapping)), None)
    if inside is not None:
        return _what_else(inside)
    others = [str(key) for key, item in value.items() if not isinstance(item, Tensor)]
    return f"what is no tensor: {', '.join(others[:8])}" if others else "no tensors"


def _load(path: Path) -> Any:
    """Return the content of a file of tensors and plain values."""
    try:
        # torch opens a path that ends with .safetensors in another way
        with torch.serialization.safe_globals(_READ_TOO), path.open("rb") as handle:
            return torch.load(handle, map_location="cpu", weights_only=True)
    except Exception as reason:  # torch raises many types of errors for broken files
        names = sorted(set(_GLOBAL.findall(str(reason))))
        kind, todo = _other_kind(path)
        what = (
            f"it holds {', '.join(names)}, and not tensors alone"
            if names
            else f"it is {kind or 'no file of torch.save, or damaged'}"
        )
        raise CheckpointError(
            f"{path} can't be read as weights: {what}",
            todo=todo or "Save the state dict alone: torch.save(net.state_dict(), FILE).",
        ) from reason


def _other_kind(path: Path) -> tuple[str, str]:
    """Return what a file is that holds no weights, and what to do; empty texts where that is not known."""
    with path.open("rb") as handle:
        head = handle.read(64)
    if head.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile:  # its table of contents is at the end
            return "the beginning of a file whose end is missing", "Copy or download it again."
        if any(name.endswith("/constants.pkl") for name in names):
            return "a TorchScript program", ""
        return "an archive of numpy" if any(name.endswith(".npy") for name in names) else "", ""
    return next((found for pattern, found in _OTHER_FILES.items() if re.match(pattern, head)), ("", ""))


def _is_safetensors(path: Path) -> bool:
    """Return whether a file is of the safetensors format: it begins with the length of a JSON object and this object."""
    with path.open("rb") as handle:
        head = handle.read(9)
    return head[8:] == b"{" or (path.suffix == ".safetensors" and not head.startswith(b"PK"))


def _load_safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as reason:
        kind, todo = _other_kind(path)
        what = f"it is {kind}" if kind else str(reason).splitlines()[0]
        raise CheckpointError(f"{path} can't be read as safetensors: {what}", todo=todo) from reason


def write_safetensors(state: Mapping[str, Tensor], path: Path, description: Mapping[str, str]) -> None:
    """Write a state dict as a safetensors file.

    Args:
        state: Key -> tensor. Keys that share memory are each written in full.
        path: The file; it must not exist yet or is replaced.
        description: Texts for the header of the file.
    """
    tensors = {key: value.detach().cpu().clone().contiguous() for key, value in state.items()}
    with files.replacing(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, dict(description)))
