"""The part of a bundle that all methods of an experiment share: data set, classes, preprocessing, topology, images."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from stimcore.bundle.fields import Fields, shape_of
from stimcore.bundle.integrity import check_name, read_listed
from stimcore.data.normalise import Normalisation
from stimcore.data.preprocessing import Preprocessing
from stimcore.errors import BundleError
from stimcore.subnets.topology import Topology

VERSION = 2
"""The version that is written. Version 1 is read, too."""
IMAGE_FILES = ("calibration.npz", "evaluation.npz")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What all methods of an experiment share, opened.

    Attributes:
        path: The folder of the experiment.
        dataset: Name of the data set.
        licence: Licence of the images; empty when unknown.
        classes: Names of the classes in the order of their labels.
        preprocessing: The steps from a stored image, or from a picture, to the input of the networks.
        topology: The topology of the main network.
        hashes: File -> SHA-256, of every file in this folder except `experiment.json`; of the image files only in version 1.
        version: Version of the schema.
    """

    path: Path
    dataset: str
    licence: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    topology: Topology
    hashes: Mapping[str, str]
    version: int = VERSION

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.path.name

    @property
    def methods(self) -> tuple[str, ...]:
        """Folders of methods in this experiment: common training first, then stimulative, then by name."""
        names = [path.parent.name for path in self.path.glob("*/manifest.json") if not path.parent.name.startswith(".")]
        return tuple(sorted(names, key=lambda name: ({"common": 0, "stimulative": 1}.get(name, 2), name)))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape `[C, H, W]` of one image as the networks take it; stored images may have another size."""
        return self.preprocessing.input_shape

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean per channel, of pixels scaled to [0, 1]."""
        return self.preprocessing.normalisation.mean

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation per channel, of pixels scaled to [0, 1]."""
        return self.preprocessing.normalisation.std

    @property
    def sha256(self) -> str:
        """Hash of what defines the experiment: everything in `experiment.json` except the hash of the model card.

        The manifests of its methods hold it, so that networks are never evaluated on images that they were not exported with.
        """
        value = self.to_dict() | {"hashes": {name: self.hashes[name] for name in IMAGE_FILES}}
        return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

    @cached_property
    def calibration(self) -> NDArray[np.uint8]:
        """Stored images for re-calibration, `[N, C, h, w]`."""
        return self._load_images("calibration.npz")["pixels"]

    @cached_property
    def evaluation(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Stored images `[N, C, h, w]` and labels `[N]` for evaluation."""
        arrays = self._load_images("evaluation.npz")
        return arrays["pixels"], arrays["labels"]

    def count_images(self, name: str) -> int:
        """Return the number of images in `calibration.npz` or `evaluation.npz` without decoding them.

        Raises:
            BundleError: The file has changed, or can't be read.
        """
        return len(self._load(name, ("labels",))["labels"])

    def normalise(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return stored images, or images of the networks' size, as the networks' input `[B, C, H, W]`."""
        return self.preprocessing(pixels)

    def read(self, name: str) -> bytes:
        """Return the content of a file of this folder.

        Raises:
            BundleError: The file is missing, is not listed, or has changed since it was exported.
        """
        return read_listed(self.path, name, self.hashes)

    def _load(self, name: str, keys: Sequence[str]) -> dict[str, NDArray[Any]]:
        content = self.read(name)
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return {key: arrays[key] for key in keys}
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as reason:
            raise BundleError(f"{self.path / name} can't be read ({type(reason).__name__})") from reason

    def _load_images(self, name: str) -> dict[str, NDArray[Any]]:
        loaded = self._load(name, ("pixels", "labels"))
        pixels, labels = loaded["pixels"], loaded["labels"]
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or len(pixels) != len(labels) or not len(labels):
            raise BundleError(f"{self.path / name} holds no images", allowed="uint8 [N, C, h, w] and as many labels")
        return loaded

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `experiment.json`, in version 2."""
        return {
            "version": VERSION,
            "dataset": self.dataset,
            "licence": self.licence,
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.to_dict(),
            "topology": self.topology.to_dict(),
            "hashes": dict(sorted(self.hashes.items())),
        }

    @classmethod
    def from_dict(cls, path: Path, value: Mapping[str, Any]) -> Self:
        """Return the experiment that the JSON of `PATH/experiment.json` describes; unknown keys are ignored.

        Raises:
            ValueError: A key is missing, or has a value that is not allowed.
            SpecError: The topology is not one.
        """
        fields = Fields(value, "experiment.json")
        version = fields.whole("version")
        if version == 1:
            mean, std = (tuple(map(float, fields.items(key))) for key in ("mean", "std"))
            preprocessing = Preprocessing.without_resize(shape_of(value, "image_shape"), Normalisation(mean, std))
        else:
            preprocessing = Preprocessing.from_dict(fields.mapping("preprocessing"))
        hashes = fields.texts_by_key("hashes")
        for name in hashes:
            check_name(name)
        if not set(IMAGE_FILES) <= set(hashes):
            raise ValueError(f"experiment.json has no hashes of {' and '.join(IMAGE_FILES)}")
        return cls(
            path=path,
            dataset=fields.text("dataset"),
            licence=fields.text("licence"),
            classes=fields.texts("classes"),
            preprocessing=preprocessing,
            topology=Topology.from_dict(fields.mapping("topology")),
            hashes=hashes,
            version=version,
        )
