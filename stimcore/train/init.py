"""Weights that a training starts from: those of a run, of a file, or torchvision's.

Everything but the head has to fit, so that no run starts from half of the weights that it names. Layers of the head that do not
fit, because there are other classes, keep their random weights.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from stimcore import files
from stimcore.bundle import open_bundle
from stimcore.errors import CheckpointError, UsageError
from stimcore.nets.catalogue import is_own
from stimcore.nets.staged import StagedNet
from stimcore.recipes.recipe import Recipe
from stimcore.runs import checkpoint
from stimcore.runs.bundles import bundle_weights, is_bundle
from stimcore.runs.convert import TORCHVISION, read_weights
from stimcore.runs.run import Run
from stimcore.runs.trained_run import check_numbers, shortened
from stimcore.runs.weights import Weights, rename


@dataclass(frozen=True, kw_only=True)
class InitialWeights:
    """What a network started from.

    Attributes:
        source: The origin of the weights.
        loaded: Number of tensors that were loaded.
        new: Layers of the head that kept their random weights.
        kept: Keys outside of the head that the file lacks and that keep the value of a fresh network: counters of batch norms.
        unused: Keys of the file that the network doesn't have.
    """

    source: str
    loaded: int
    new: tuple[str, ...]
    kept: tuple[str, ...]
    unused: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what `run.json` stores."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(self).items()}

    def sentence(self) -> str:
        """Return in words what was loaded, what is new and what was not used."""
        text = f"starts from {self.source}: {self.loaded} tensors"
        text += f"; new with random weights: {', '.join(self.new)}" if self.new else "; the head is the file's too"
        text += f"; not in the file: {shortened(self.kept)}" if self.kept else ""
        return text + (f"; in the file and not used: {shortened(self.unused)}" if self.unused else "")


def read_initial(name: str, network: str, *, averaged: bool = False) -> Weights:
    """Return the weights that `--init` names.

    Args:
        name: A run folder, a bundle, a file of weights, or `torchvision:WEIGHTS`.
        network: Name in the catalogue of networks; it decides which of torchvision's weights are meant.
        averaged: Take the average of the weights over the steps, which only files have.

    Raises:
        UsageError: There is nothing of that name.
        CheckpointError: The run has no readable checkpoint, or the file can't be read.
        BundleError: The bundle is broken.
        Unavailable: torchvision's weights could not be downloaded.
    """
    folder = Path(name)
    if not folder.is_dir():
        if not folder.exists() and not name.startswith(TORCHVISION):
            raise UsageError(
                f"there is nothing called '{name}' to start from",
                allowed="a run folder, a bundle, a file of weights, torchvision:WEIGHTS",
            )
        return read_weights(name, network, averaged=averaged)
    if averaged:
        kind = "bundle" if is_bundle(folder) else "run folder"
        raise UsageError(f"--ema with the {kind} {name}: it has no averaged weights", allowed="a file of weights")
    if is_bundle(folder):
        # an own network is imported anyway where it is the one to train; any other code that a bundle names is not run
        return bundle_weights(folder, trust_code=is_own(network))
    run = Run.read(folder)
    newest = checkpoint.newest(folder)
    if newest is None:
        raise CheckpointError(f"{name} has no checkpoint yet", todo="Train at least one epoch there first.")
    path, state, _ = newest
    source = f"run {run.name or folder.name}, {run.network}, epoch {state.epoch} (sha256 {files.sha256(path)})"
    return Weights(name=str(path), tensors=state.network, source=source)


def fits_roughly(net: StagedNet, weights: Weights) -> bool:
    """Return whether weights have at least half of the keys of a network: whether they are of this network at all."""
    own = net.module.state_dict()
    return 2 * len(set(rename(weights.tensors, own, weights.name).tensors) & set(own)) >= len(own)


def initialise(net: StagedNet, weights: Weights) -> InitialWeights:
    """Load weights into a network.

    Args:
        net: Changed in place.
        weights: From `read_initial`.

    Raises:
        CheckpointError: Weights outside of the head are missing, have another shape, or are not finite; the message names them.
    """
    own = net.module.state_dict()
    renamed = rename(weights.tensors, own, weights.name)
    head = _head_keys(net)
    fitting = {key: value for key, value in renamed.tensors.items() if key in own and value.shape == own[key].shape}
    # a layer of which one tensor fits and another does not is new as a whole: a bias of other classes would be no use
    unfit = {_layer(key) for key in head if key not in fitting}
    new = {key for key in head if _layer(key) in unfit}
    missing = sorted(set(own) - head - set(fitting))
    kept = [key for key in missing if key.endswith("num_batches_tracked") and key not in renamed.tensors]
    if problems := [key for key in missing if key not in kept]:
        shown = [
            f"{key} is {tuple(renamed.tensors[key].shape)} instead of {tuple(own[key].shape)}"
            if key in renamed.tensors
            else f"{key} is missing"
            for key in problems
        ]
        raise CheckpointError(
            f"{weights.name} does not fit {net.topology.network} outside of its head: {shortened(shown)}",
            todo="Give the --network of these weights, and images of its size: --dataset folder:PATH@224 for most on ImageNet.",
        )
    loaded = {key: value for key, value in fitting.items() if key not in new}
    check_numbers(loaded, own, f"{weights.name} does not fit {net.topology.network}")
    net.module.load_state_dict({**own, **loaded})
    unused = (*(key for key in renamed.tensors if key not in own), *renamed.outside)
    return InitialWeights(
        source=weights.source,
        loaded=len(loaded),
        new=tuple(sorted(layer for layer in unfit)),
        kept=tuple(kept),
        unused=tuple(sorted(unused)),
    )


def _head_keys(net: StagedNet) -> set[str]:
    """Return the keys of the head's tensors in the state dict of the wrapped module."""
    inside = {id(tensor) for tensor in (*net.head.parameters(), *net.head.buffers())}
    return {key for key, tensor in _tensors(net).items() if id(tensor) in inside}


def _tensors(net: StagedNet) -> Mapping[str, Tensor]:
    module = net.module
    return dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))


def _layer(key: str) -> str:
    """Return the name of the layer that a tensor belongs to."""
    return key.rpartition(".")[0] or key


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a run or a bundle was trained on, which a fine-tuning of it takes over.

    Attributes:
        network: Name in the catalogue of networks.
        dataset: A name that `stimcore.data.sources.load` accepts.
        experiment: Name of the experiment.
        train_per_class: Training images per class; None for all.
        spec: The sub-network that was trained alone (a twin); None for the whole network.
        data_root: Folder of the data set; None for the default.
    """

    network: str
    dataset: str
    experiment: str
    train_per_class: int | None
    spec: str | None
    data_root: str | None

    def applied(self, recipe: Recipe) -> Recipe:
        """Return a recipe for the network and the data of this origin."""
        return dataclasses.replace(
            recipe,
            network=self.network,
            dataset=self.dataset,
            experiment=self.experiment,
            train_per_class=self.train_per_class,
        )


def origin(name: str) -> Origin | None:
    """Return what the run or the bundle that `--init` names was trained on; None for a file of weights, which doesn't say.

    Raises:
        CheckpointError: The folder is neither a run nor a bundle.
        BundleError: The bundle is broken.
    """
    folder = Path(name)
    if not folder.is_dir():
        return None
    if is_bundle(folder):
        bundle = open_bundle(folder)
        recipe, spec = bundle.manifest.recipe, bundle.manifest.spec
        network, dataset, root = bundle.experiment.topology.network, bundle.experiment.dataset, None
        experiment = bundle.experiment.name
    else:
        run = Run.read(folder)
        recipe, spec, network, dataset, root = run.recipe, run.spec, run.network, run.dataset, run.data_root
        experiment = folder.absolute().parent.name
    return Origin(
        network=str(recipe.get("network", network)),
        dataset=str(recipe.get("dataset", dataset)),
        experiment=str(recipe.get("experiment", experiment)),
        train_per_class=recipe.get("train_per_class"),
        spec=spec,
        data_root=root,
    )
