"""Names of bundles and of their networks: what a worker opens, what the Open Inference Protocol and a Triton call a model."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stimcore.bundle import Bundle
from stimcore.subnets.spec import Spec


@dataclass(frozen=True)
class BundleRef:
    """Which bundle a worker opens.

    The fingerprint makes sure that worker and front mean the same export: a worker refuses a folder that was exported anew
    since the front opened it.

    Attributes:
        path: Absolute path of the bundle's folder.
        fingerprint: sha256 of its manifest.
    """

    path: str
    fingerprint: str


@dataclass(frozen=True)
class Model:
    """One model of the Open Inference Protocol.

    Attributes:
        name: `EXPERIMENT.METHOD`, or `EXPERIMENT.METHOD.FILE` without `.onnx` for a listed file.
        bundle: The bundle that holds it.
        spec: What a listed file holds; None where the request chooses the sub-network (the main one by default).
    """

    name: str
    bundle: Bundle
    spec: Spec | None

    @cached_property
    def ref(self) -> BundleRef:
        """The reference by which a worker opens the bundle."""
        return bundle_ref(self.bundle)

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """Name, datatype and shape of each input, with -1 for the batch."""
        return [{"name": "images", "datatype": "FP32", "shape": [-1, *self.bundle.experiment.image_shape]}]

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """Name, datatype and shape of each output, with -1 for the batch."""
        return [{"name": "logits", "datatype": "FP32", "shape": [-1, len(self.bundle.experiment.classes)]}]


def bundle_ref(bundle: Bundle) -> BundleRef:
    """Return the reference by which a worker opens a bundle.

    Links in its path stay as they are: where the folder of a method is one, the experiment lies beside the link, and a volume
    of Kubernetes turns its link to a new folder and deletes the old one.
    """
    return BundleRef(str(bundle.path.absolute()), bundle.fingerprint)


def models_of(bundle: Bundle) -> list[Model]:
    """Return the models of a bundle: one for any sub-network, and one for each listed file.

    Raises:
        SpecError: The manifest lists a sub-network that the network does not have.
    """
    return [Model(_base_name(bundle), bundle, None), *(model for model, _ in _listed(bundle))]


def aliases_of(bundle: Bundle) -> dict[str, Model]:
    """Return the listed models by the names that `stimcore.export --triton` gives them.

    Because these names work too, this server can stand in for a Triton with the same networks.
    """
    return {triton_name(bundle, spec): model for model, spec in _listed(bundle)}


def triton_name(bundle: Bundle, spec: Spec) -> str:
    """Return `EXPERIMENT.METHOD.SHORT` for a listed network, and `EXPERIMENT.METHOD` for the main one."""
    base = _base_name(bundle)
    return base if spec == bundle.topology.full else f"{base}.{bundle.topology.short(spec)}"


def _base_name(bundle: Bundle) -> str:
    return f"{bundle.experiment.name}.{bundle.method}"


def _listed(bundle: Bundle) -> list[tuple[Model, Spec]]:
    base = _base_name(bundle)
    specs = {file: bundle.topology.parse(entry.spec) for file, entry in bundle.manifest.networks.items() if entry.spec}
    return [(Model(f"{base}.{Path(file).stem}", bundle, spec), spec) for file, spec in specs.items()]
