"""The parts of a network as small ONNX graphs, of which a browser composes any arrangement.

A part has two graphs: one measures the statistics of its batch norms on the images of a batch, the other takes statistics as
inputs. Both read their constants from the bundle's own file of weights, so that no weight is stored twice, and so that networks
of one topology, whose files of weights have the same layout, share their graphs.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from stimcore.bundle import Bundle
from stimcore.engine.graph.compose import add_stored, copy_steps, model_of
from stimcore.engine.graph.external import load_model
from stimcore.engine.graph.main_graph import MainGraph
from stimcore.engine.graph.measure import measuring_graph
from stimcore.engine.prefix_tree import Unit
from stimcore.errors import BundleError
from stimcore.subnets.part_name import PartName


@dataclass(frozen=True)
class PartGraphs:
    """The two graphs of one part.

    Attributes:
        measure: A graph from the part's input to its output, then mean and population variance `[C]` of every batch norm.
        run: A graph from the part's input, and mean and variance `[C]` of every batch norm, to its output.
        norms: Names of the batch norms, in the order of these outputs and inputs.
    """

    measure: onnx.ModelProto
    run: onnx.ModelProto
    norms: list[str]


def part_graphs(graph: MainGraph, part: PartName) -> PartGraphs:
    """Return the graphs of a part of the main network.

    Ensures:
        Chained along a route, they compute what the engine computes for this route, except for the order of float sums.

    Args:
        graph: The main network.
        part: A whole part: `stem`, `block4`, `head`.
    """
    route = (part,)
    unit = Unit((), (route,), (route,))
    measured = measuring_graph(graph, unit)
    nodes: list[NodeProto] = []
    constants: dict[str, TensorProto] = {}
    inputs: list[str] = []
    (step,) = copy_steps(graph, unit)
    for node in step.nodes:
        nodes.append(node)
        if node.op_type == "BatchNormalization":
            inputs += node.input[3:5]
    add_stored(graph, step, nodes, constants)
    run = model_of(graph, nodes, constants, outputs=[step.output])
    for name in inputs:
        run.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return PartGraphs(measured.model, run, [norm for _, norm in measured.norms])


def parts_of(bundle: Bundle, shared: dict[str, int]) -> dict[str, Any]:
    """Return all parts of a bundle's main network as JSON: numbers of graphs, batch norms, and the statistics of training.

    Args:
        bundle: One whose blocks don't concatenate: parts that are narrowed differ from sub-network to sub-network.
        shared: Graph in base64 -> its number, of all bundles of an experiment; new graphs are added.

    Raises:
        BundleError: `main.onnx` can't be used, or its blocks concatenate.
    """
    if bundle.topology.channels is not None:
        raise BundleError(f"{bundle.path} has blocks that concatenate, which can't be taken apart in a browser")
    graph = MainGraph.load(bundle.read, bundle.manifest.parts, bundle.topology)
    places = _places(load_model(bundle.read, "main.onnx"))
    trained = bundle.trained_statistics()
    entries = {}
    for part in graph.parts:
        graphs = part_graphs(graph, part)
        entries[str(part)] = {
            "measure": _number(_packed(_without_running(graphs.measure), places), shared),
            "run": _number(_packed(graphs.run, places), shared),
            "norms": [
                {
                    "positions": graph.positions(part)[norm],
                    "mean": encoded(trained[f"{norm}.mean"].astype("<f4")),
                    "var": encoded(trained[f"{norm}.var"].astype("<f4")),
                }
                for norm in graphs.norms
            ],
        }
    return {"parts": entries}


def encoded(values: NDArray[Any]) -> str:
    """Return an array's bytes in base64.

    Example:
        >>> import numpy as np
        >>> encoded(np.array([1, 2], "<u2"))
        'AQACAA=='
    """
    return base64.b64encode(values.tobytes()).decode()


def _places(model: onnx.ModelProto) -> dict[str, Mapping[str, str]]:
    """Return constant -> where it lies in the file of weights."""
    return {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in model.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
    }


def _number(graph: str, shared: dict[str, int]) -> int:
    return shared.setdefault(graph, len(shared))


def _without_running(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a measuring graph with zeros in the place of running statistics, of which it uses nothing but the shape."""
    running = {name for node in model.graph.node if node.op_type == "BatchNormalization" for name in node.input[3:5]}
    for tensor in model.graph.initializer:
        if tensor.name in running:
            tensor.raw_data = bytes(len(tensor.raw_data))
    return model


def _packed(model: onnx.ModelProto, places: Mapping[str, Mapping[str, str]]) -> str:
    """Return a model in base64, with the constants that the file of weights holds as references to it."""
    for tensor in model.graph.initializer:
        if tensor.name in places:
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in sorted(places[tensor.name].items()):
                tensor.external_data.add(key=key, value=value)
    return base64.b64encode(model.SerializeToString(deterministic=True)).decode()
