"""Files that hold no weights and are given in their place: each is named, with what to do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stimcore.errors import CheckpointError, UsageError
from stimcore.runs.convert import read_weights
from tests.runs.test_weights import NETWORK, weights

OTHER_FILES = {
    "page": (b"<!DOCTYPE html>\n<title>404</title>", "it is a web page or another text. Download the file itself."),
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid",
        "it is a pointer of Git LFS to the file. Get .* git lfs pull",
    ),
    "index": (b'{\n "weight_map": {"a": "model-1.safetensors"}}', "it is a JSON text, as the index .* Save the weights as one"),
    "empty": (b"", "it is an empty file. Copy or download it again."),
    "array": (b"\x93NUMPY\1\0", r"it is an array of numpy|header too large"),
    "noise": (b"\x08\x07nothing", r"it is no file of torch.save, or damaged. Save the state dict|header too large"),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("name", OTHER_FILES)
def test_files_that_are_often_given_in_the_place_of_weights_are_named(name: str, suffix: str, tmp_path: Path) -> None:
    content, words = OTHER_FILES[name]
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"can't be read as .*: .*({words})"):
        read_weights(str(file), NETWORK)


def test_archives_that_are_no_weights_are_named(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save(weights(), file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="it is the beginning of a file whose end is missing. Copy or download"):
        read_weights(str(file), NETWORK)
    np.savez(tmp_path / "weights.npz", a=np.zeros(1))
    with pytest.raises(CheckpointError, match="it is an archive of numpy. Save the state dict alone"):
        read_weights(str(tmp_path / "weights.npz"), NETWORK)
    with pytest.raises(UsageError, match=f"{tmp_path} is a folder; allowed: a file of weights"):
        read_weights(str(tmp_path), NETWORK)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"model": {}}, "holds no tensors; allowed: a state dict, alone or as state_dict or"),
        ({"state_dict": {"lr": 0.1, "w": torch.zeros(1)}}, "holds what is no tensor: lr"),
        ({"ema": {"decay": 0.9, "shadow_params": [torch.zeros(1)]}}, "what is no tensor: decay, shadow_params"),
        (json.dumps({}), "holds a str"),
    ],
)
def test_what_holds_no_weights_is_refused_in_one_sentence(tmp_path: Path, value: Any, message: str) -> None:
    torch.save(value, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=message):
        read_weights(str(tmp_path / "odd.pt"), NETWORK)
