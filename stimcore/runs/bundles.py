"""Torch networks out of bundles: the weights of `main.onnx` under the keys of the network that they were exported from.

The exporter names a constant after its part and its key there, `block3/conv1.weight`. torch's older exporter stores two equal
tensors of a part once. The key that was lost is found again by exporting a fresh network, whose weights all differ, and by
reading both graphs node by node. torch.export transposes the weights of small linear layers and stores them without a key; they
are found by the order in which the layers run.
"""

import copy
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stimcore.bundle import Bundle, Manifest, open_bundle
from stimcore.bundle.bundle import WEIGHTS
from stimcore.bundle.manifest import MAIN
from stimcore.errors import BundleError, UsageError
from stimcore.methods.table import is_own_method
from stimcore.nets.catalogue import is_own
from stimcore.nets.norms import batch_norms
from stimcore.nets.onnx_part import export_part, norm_calls
from stimcore.nets.staged import Part, StagedNet
from stimcore.runs.run import Run
from stimcore.runs.weights import Weights

Nodes = dict[str, list[onnx.NodeProto]]
"""Name of a part -> its nodes, in order."""


def is_bundle(folder: Path) -> bool:
    """Return whether a folder is a bundle and not a run folder."""
    return (folder / "manifest.json").is_file() and not (folder / "run.json").is_file()


def bundle_weights(path: Path, *, trust_code: bool = False) -> Weights:
    """Return the weights of a bundle's main network, with the batch-norm statistics that training left.

    Args:
        path: `exported/EXPERIMENT/METHOD`.
        trust_code: Whether modules that the bundle names as its network and its method may be imported, which runs their code.

    Raises:
        BundleError: The bundle is broken, or was exported from another version of this network.
        UsageError: It names a module that is not trusted.
    """
    bundle = open_bundle(path)
    net = bundle_network(bundle, trust_code=trust_code)
    sha256 = bundle.manifest.checkpoint_sha256
    source = f"bundle {bundle.experiment.path.name}/{bundle.method}, {bundle.topology.network} (checkpoint sha256 {sha256})"
    return Weights(name=str(path), tensors=net.module.state_dict(), source=source)


def bundle_network(bundle: Bundle, *, trust_code: bool = False) -> StagedNet:
    """Return the network that a bundle was exported from, with the weights and statistics that training left.

    Args:
        bundle: The bundle.
        trust_code: As for `bundle_weights`.

    Returns:
        The network in evaluation mode, on the CPU.

    Raises:
        BundleError: The bundle is broken, or was exported from another version of this network.
        UsageError: It names a module that is not trusted.
    """
    run = _run_of(bundle)
    for what, name, own in (("network", run.network, is_own(run.network)), ("method", run.method, is_own_method(run.method))):
        if own and not trust_code:
            raise UsageError(
                f"{bundle.path} names the {what} '{name}', whose code would be run",
                todo="Pass trust_code=True if the bundle and this module are yours.",
            )
    net = run.build_network().eval()
    if net.topology.stages != bundle.topology.stages:
        raise BundleError(
            f"{bundle.path} has stages of {bundle.topology.sizes} blocks, {run.network} has {net.topology.sizes} now",
            todo="The program that exported it can load it.",
        )
    constants, nodes = _read_main(bundle)
    statistics = bundle.trained_statistics()
    x = torch.zeros(2, *net.input_shape)
    for part in net.route(net.topology.full):
        _load_part(bundle, part, constants, nodes.get(str(part.name), []), x)
        norms = [node.name for node in nodes.get(str(part.name), []) if node.op_type == "BatchNormalization"]
        _load_statistics(bundle, part, norms, statistics, x)
        with torch.no_grad():
            x = part.module(x)
    return net


def _run_of(bundle: Bundle) -> Run:
    """Return the run that a bundle was exported from, as far as its network needs it."""
    manifest, experiment = bundle.manifest, bundle.experiment
    network, spec = _network_and_spec(manifest)
    return Run(
        network=network,
        spec=spec,
        input_shape=experiment.image_shape,
        num_classes=len(experiment.classes),
        method=manifest.method,
        options=manifest.options,
        recipe=manifest.recipe,
        seed=manifest.seed,
        dataset=experiment.dataset,
        mean=experiment.mean,
        std=experiment.std,
        machine={},
    )


def _network_and_spec(manifest: Manifest) -> tuple[str, str | None]:
    """Return the name of the network in the catalogue, and the spec of a twin that was cut out of it.

    A twin may also be a network of its own: a converted ResNet-20 is the twin of a sub-network of ResNet-32.
    """
    name = str(manifest.recipe.get("network", manifest.topology.network))
    cut = manifest.spec is not None and manifest.topology.network.startswith(f"{name}:")
    return name, manifest.spec if cut else None


def _read_main(bundle: Bundle) -> tuple[dict[str, Tensor], Nodes]:
    """Return the constants of `main.onnx` by name, and its nodes by part."""
    model = _read_model(bundle, MAIN)
    store = bundle.read(WEIGHTS)
    constants = {}
    for tensor in model.graph.initializer:
        # nothing is opened by a name that the model's file chooses: there is one file of weights
        places = {entry.key: entry.value for entry in tensor.external_data}
        if tensor.data_location == TensorProto.EXTERNAL:
            start = int(places.get("offset", "0"))
            raw = store[start : start + int(places.get("length", "0"))]
        else:
            raw = onnx.numpy_helper.to_array(tensor).tobytes()
        values = np.frombuffer(raw, onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        if values.size != int(np.prod(tensor.dims, dtype=np.int64)):
            raise BundleError(f"{bundle.path / MAIN} refers to the constant {tensor.name} outside of {WEIGHTS}")
        constants[tensor.name] = torch.from_numpy(values.reshape(tuple(tensor.dims)).copy())
    nodes: Nodes = {}
    for node in model.graph.node:
        nodes.setdefault(node.name.partition("/")[0], []).append(node)
    return constants, nodes


def _read_model(bundle: Bundle, name: str) -> onnx.ModelProto:
    content = bundle.read(name)
    try:
        return onnx.load_from_string(content)
    except Exception as reason:  # protobuf raises several types for broken messages
        raise BundleError(f"{bundle.path / name} is not an ONNX model ({type(reason).__name__})") from reason


@torch.no_grad()
def _load_part(bundle: Bundle, part: Part, constants: dict[str, Tensor], nodes: list[onnx.NodeProto], example: Tensor) -> None:
    """Fill the parameters of one part."""
    parameters = dict(part.module.named_parameters())
    values = {key: constants[f"{part.name}/{key}"] for key in parameters if f"{part.name}/{key}" in constants}
    if missing := set(parameters) - set(values):
        if "(torch.export)" in (bundle.manifest.exporter or ""):
            values |= _unnamed_weights(bundle, part, missing, constants, nodes, example)
        else:
            places = _places(part, nodes, example)
            if missing - set(places):
                raise BundleError(
                    f"{bundle.path / MAIN} lacks {part.name}/{min(missing - set(places))}",
                    todo="The program that exported it can load it.",
                )
            values |= {key: constants[places[key]] for key in missing if places[key] in constants}
    for key, value in values.items():
        if parameters[key].shape != value.shape:
            raise BundleError(
                f"{part.name}/{key} is {tuple(value.shape)} in {bundle.path}, not {tuple(parameters[key].shape)}",
                todo="The program that exported it can load it.",
            )
        parameters[key].copy_(value)


def _unnamed_weights(
    bundle: Bundle,
    part: Part,
    missing: Collection[str],
    constants: Mapping[str, Tensor],
    nodes: Sequence[onnx.NodeProto],
    example: Tensor,
) -> dict[str, Tensor]:
    """Return the weights that torch.export has stored transposed and without their keys.

    Parameters that the part does not read are stored nowhere and left out.

    Raises:
        BundleError: A parameter is read, and no constant is it transposed: the exporter has computed something else of it.
    """
    named = {f"{part.name}/{key}" for key in part.module.state_dict()}
    read = dict.fromkeys(name for node in nodes for name in node.input if name in constants and name not in named)
    transposed = [constants[name].T for name in read if constants[name].dim() == 2]
    parameters = dict(part.module.named_parameters())
    lost = [key for key in _reading_order(part.module, example) if key in missing]
    weights: dict[str, Tensor] = {}
    for shape in {parameters[key].shape for key in lost}:
        keys = [key for key in lost if parameters[key].shape == shape]
        stored = [weight for weight in transposed if weight.shape == shape]
        if len(keys) == len(stored):
            weights |= dict(zip(keys, stored, strict=True))
    if gone := [key for key in lost if key not in weights]:
        raise BundleError(
            f"{bundle.path / MAIN} has no constant that is {part.name}/{gone[0]}: torch.export computed another one of it",
            todo="Export the run folder with --exporter torchscript to get a bundle that can be loaded.",
        )
    return weights


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's base class has no types
    """Notes which parameters operations read, in order, also through views of them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys = {parameter.untyped_storage().data_ptr(): key for key, parameter in module.named_parameters()}
        self.order: dict[str, None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor) and (key := self.keys.get(value.untyped_storage().data_ptr())):
                self.order.setdefault(key)
        return func(*args, **(kwargs or {}))


def _reading_order(module: nn.Module, example: Tensor) -> list[str]:
    """Return the keys of the parameters that a module in evaluation mode reads, in the order in which it reads them."""
    # with gradients: without them attention is one operation that reads all of its parameters together
    with torch.enable_grad(), _Reads(module) as reads:
        module(example)
    return list(reads.order)


def _places(part: Part, nodes: list[onnx.NodeProto], example: Tensor) -> dict[str, str]:
    """Return key of a parameter -> the constant that stands in its place; '' for one that no node reads.

    Args:
        part: Its weights are left as they are.
        nodes: Of the part in the bundle.
        example: Input of the part.
    """
    fresh = copy.deepcopy(part.module)
    generator = torch.Generator().manual_seed(0)
    for parameter in fresh.parameters():  # so that none of them equals another
        nn.init.uniform_(parameter, 0.1, 1.0, generator=generator)
    exported = export_part(part.name, fresh, example).graph
    places = dict.fromkeys((key for key, _ in fresh.named_parameters()), "")
    copies = {node.output[0]: node.input[0] for node in exported.node if node.op_type == "Identity"}
    kept = [node for node in exported.node if copies.get(node.output[0]) not in places]
    if [node.op_type for node in kept] != [node.op_type for node in nodes]:
        return {}
    for one, other in zip(kept, nodes, strict=True):
        for key, constant in zip(one.input, other.input, strict=False):
            if copies.get(key, key) in places:
                places[copies.get(key, key)] = constant
    return places


@torch.no_grad()
def _load_statistics(
    bundle: Bundle, part: Part, names: list[str], statistics: Mapping[str, NDArray[np.float32]], example: Tensor
) -> None:
    """Fill the running statistics of one part's batch norms: their nodes are in the order in which the modules run."""
    if not batch_norms(part.module):
        return
    norms = [norm for norm, _ in norm_calls(part.module, example)]
    if len(norms) != len(names):
        raise BundleError(f"{part.name} has {len(norms)} batch norms, {bundle.path} has {len(names)}")
    for norm, name in zip(norms, names, strict=True):
        for tensor, ending in ((norm.running_mean, "mean"), (norm.running_var, "var")):
            value = torch.from_numpy(statistics[f"{name}.{ending}"].copy())
            if tensor is None or tensor.shape != value.shape:
                raise BundleError(f"the statistics of {name} in {bundle.path} have another shape than those of the network")
            tensor.copy_(value)


def load_listed_statistics(bundle: Bundle, file: str, parts: Sequence[Part], example: Tensor) -> None:
    """Give the parts of a sub-network the re-calibrated statistics of a listed file.

    Args:
        bundle: The bundle.
        file: Name of the file.
        parts: The parts of the sub-network, in evaluation mode and of their own width: changed in place.
        example: Images `[B, C, H, W]`.

    Raises:
        BundleError: The file is broken, or is not of this network.
    """
    model = _read_model(bundle, file)
    inline = [tensor for tensor in model.graph.initializer if tensor.data_location != TensorProto.EXTERNAL]
    statistics = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in inline}
    norms = [node.name for node in model.graph.node if node.op_type == "BatchNormalization"]
    x = example
    for part in parts:
        _load_statistics(bundle, part, [name for name in norms if name.startswith(f"{part.name.whole}/")], statistics, x)
        with torch.no_grad():
            x = part.module(x)
