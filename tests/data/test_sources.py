"""Named data sets: loaded from where they are, refused in one sentence where they are missing."""

import gzip
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stimcore.data import fashion
from stimcore.data.fashion import DEBIAN, FILES, fashion_mnist
from stimcore.data.images import Dataset, Images, calibration_subset
from stimcore.data.normalise import channel_statistics
from stimcore.data.sources import DATASETS, load
from stimcore.errors import DataMissing, UsageError

ROOT = Path(__file__).parents[2]


def write_idx(folder: Path, *, packed: bool) -> None:
    """Four idx files with 20 training and 10 test images."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        count = 20 if name.startswith("train") else 10
        if "images" in name:
            body = struct.pack(">IIII", 2051, count, 28, 28) + bytes(range(256)) * (count * 784 // 256 + 1)
            body = body[: 16 + count * 784]
        else:
            body = struct.pack(">II", 2049, count) + bytes(i % 10 for i in range(count))
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(body))
        else:
            (folder / name).write_bytes(body)


@pytest.mark.parametrize("packed", [True, False])
def test_fashion_mnist_is_read_from_four_idx_files_lying_in_the_folder(packed: bool, tmp_path: Path) -> None:
    write_idx(tmp_path, packed=packed)
    dataset = fashion_mnist(tmp_path, download=False)
    assert dataset.image_shape == (1, 28, 28)
    assert len(dataset.train) == 20
    assert len(dataset.test) == 10
    assert dataset.train.labels.tolist() == [i % 10 for i in range(20)]
    assert dataset.train.pixels[0, 0, 0, :3].tolist() == [0, 1, 2]
    assert (dataset.name, len(dataset.classes), dataset.licence[:3]) == ("fashion-mnist", 10, "MIT")
    assert len(fashion_mnist(tmp_path, download=False).train) == 20  # a second time from where torchvision looks


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_debians_package_is_found(tmp_path: Path) -> None:
    dataset = load("fashion-mnist", tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (60_000, 10_000)
    assert np.bincount(dataset.train.labels).tolist() == [6000] * 10
    measured = channel_statistics(dataset.train.pixels)
    assert dataset.mean == pytest.approx(measured.mean, abs=1e-3)
    assert dataset.std == pytest.approx(measured.std, abs=1e-3)


OFFLINE = """
import json, pathlib, sys
from stimcore.data import fashion
from stimcore.data.sources import DATASETS, load
from stimcore.errors import DataMissing
fashion.DEBIAN = pathlib.Path("/nowhere")
messages = {}
for name in DATASETS:
    try:
        load(name, pathlib.Path(sys.argv[1]))
    except DataMissing as reason:
        messages[name] = str(reason)
print(json.dumps(messages))
"""


@pytest.fixture(scope="module")
def missing(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """Return the folder that was searched, and the messages of a process without network (its proxy does not answer)."""
    folder = tmp_path_factory.mktemp("empty")
    nowhere = {key: "http://127.0.0.1:9" for key in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(folder)],
        env={**os.environ, **nowhere, "no_proxy": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return str(folder), json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize(
    ("name", "looked", "todo"),
    [
        ("fashion-mnist", "Fashion-MNIST was looked for in", "Install Debian's package dataset-fashion-mnist, or put"),
        ("cifar10", "CIFAR-10 was looked for in", "Unpack the official Python version of CIFAR-10 there"),
        ("cifar100", "CIFAR-100 was looked for in", "Unpack the official Python version of CIFAR-100 there"),
        ("imagenet", "ImageNet was looked for in", "Unpack it into train/CLASS/*.JPEG and val/CLASS/*.JPEG"),
    ],
)
def test_a_missing_data_set_says_where_it_was_looked_for_and_what_to_do(
    name: str, looked: str, todo: str, missing: tuple[str, dict[str, str]]
) -> None:
    folder, sentences = missing
    assert sentences[name].startswith(looked)
    assert folder in sentences[name]
    assert todo in sentences[name]


def test_unknown_names_and_sides_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="there is no data set 'mnist'; allowed: fashion-mnist, cifar10, cifar100, imagenet, folder"
    ):
        load("mnist")
    for side in ("7", "1025", "abc", "-3", "٣٢"):
        with pytest.raises(UsageError, match="allowed: a whole number from 8 to 1024"):
            load(f"folder:{tmp_path}@{side}")
    assert set(DATASETS) == {"fashion-mnist", "cifar10", "cifar100", "imagenet"}


def test_imagenet_is_the_custom_of_256_and_224(tmp_path: Path) -> None:
    from PIL import Image

    for part in ("train", "val"):
        for label in ("n01", "n02"):
            folder = tmp_path / "imagenet" / part / label
            folder.mkdir(parents=True)
            Image.fromarray(np.zeros((300, 400, 3), np.uint8)).save(folder / "1.JPEG")
    dataset = load("imagenet", tmp_path)
    assert dataset.image_shape == (3, 224, 224)
    assert dataset.mean == (0.485, 0.456, 0.406)
    assert dataset.name == "imagenet"


def test_labels_out_of_range_and_empty_parts_are_refused() -> None:
    good = Images(pixels=np.zeros((2, 1, 4, 4), np.uint8), labels=np.array([0, 1]))
    empty = good.first(0)
    make: dict[str, Any] = {"name": "mine", "classes": ("a", "b"), "mean": (0.5,), "std": (0.5,)}
    with pytest.raises(DataMissing, match="mine has no test images"):
        Dataset(train=good, test=empty, **make)
    with pytest.raises(DataMissing, match="training labels from 0 to 1; allowed: 0 to 0"):
        Dataset(train=good, test=good, **{**make, "classes": ("a",)})


def test_the_calibration_sample_is_seeded_sorted_and_no_larger_than_there_is() -> None:
    images = Images(pixels=np.arange(100, dtype=np.uint8).reshape(100, 1, 1, 1), labels=np.zeros(100, np.int64))
    sample = calibration_subset(images, 10)
    values = sample.pixels.ravel().tolist()
    assert values == sorted(set(values))
    assert len(values) == 10
    assert values == calibration_subset(images, 10).pixels.ravel().tolist()
    assert values != calibration_subset(images, 10, seed=1).pixels.ravel().tolist()
    assert len(calibration_subset(images)) == 100


def test_hashes_tell_pixels_labels_and_shapes_apart() -> None:
    images = Images(pixels=np.zeros((2, 1, 2, 2), np.uint8), labels=np.array([0, 1]))
    others = [
        Images(pixels=np.ones((2, 1, 2, 2), np.uint8), labels=np.array([0, 1])),
        Images(pixels=np.zeros((2, 1, 2, 2), np.uint8), labels=np.array([1, 0])),
        Images(pixels=np.zeros((2, 1, 1, 4), np.uint8), labels=np.array([0, 1])),
    ]
    assert len({images.sha256, *(other.sha256 for other in others)}) == 4
    assert fashion.CLASSES[9] == "Ankle boot"
