"""The main network of a bundle as an ONNX graph divided into parts: nodes, constants, shapes."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Self

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, numpy_helper

from stimcore.bundle import PartEntry
from stimcore.engine.graph.external import load_inlined
from stimcore.errors import BundleError
from stimcore.subnets.channels import Ranges
from stimcore.subnets.part_name import PartName
from stimcore.subnets.topology import Topology

Statistics = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Name of a batch norm's node -> mean and variance, float32 `[C]`."""


class MainGraph:
    """The main network, of which every sub-network is composed.

    Two conventions of the exporter are relied on: a node's name begins with the name of its part and a slash, and every batch
    norm has its statistics in constants that no other node reads, `NODE.mean` and `NODE.var`.

    Args:
        model: The main network with its weights.
        parts: The entries of the manifest, in order.
        topology: The topology of the network.
    """

    def __init__(self, model: onnx.ModelProto, parts: Sequence[PartEntry], topology: Topology) -> None:
        self.parts = {part.name: part for part in parts}
        self.topology = topology
        self.opsets = list(model.opset_import)
        self.weights: dict[str, TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}
        self.nodes: dict[PartName, list[NodeProto]] = {name: [] for name in self.parts}
        for node in model.graph.node:
            self.nodes[PartName.parse(node.name.split("/", 1)[0])].append(node)
        self._norms = {
            name: [node for node in nodes if node.op_type == "BatchNormalization"] for name, nodes in self.nodes.items()
        }
        self._shapes = _shapes(model)

    @classmethod
    def load(cls, read: Callable[[str], bytes], parts: Sequence[PartEntry], topology: Topology) -> Self:
        """Read `main.onnx` and the file of weights that it names.

        Args:
            read: Returns the checked content of a file of the bundle.
            parts: The entries of the manifest, in order.
            topology: The topology of the network.

        Raises:
            BundleError: A file is missing, changed or broken, or the shapes of a part can't be inferred.
        """
        graph = cls(load_inlined(read, "main.onnx"), parts, topology)
        graph.check_shapes()
        return graph

    def check_shapes(self) -> None:
        """Make sure that shape inference reached every batch norm and the output of every part.

        Raises:
            BundleError: It did not reach one; the message names the first such part.
        """
        for name in self.parts:
            norms = [self._shapes.get(node.input[0], ()) for node in self._norms[name]]
            if not all(norms) or not all(self.positions(name).values()) or not self.image_bytes(name):
                raise BundleError(f"the shapes inside part {name} of main.onnx can't be inferred", todo="Export the run again.")

    def norms(self, part: PartName) -> list[str]:
        """Return the names of a part's batch norms, in the order in which they run."""
        return [node.name for node in self._norms[part.whole]]

    def positions(self, part: PartName) -> dict[str, int]:
        """Return for every batch norm of a part how many values one image has per channel: height times width."""
        shapes = {node.name: self._shapes[node.input[0]] for node in self._norms[part.whole]}
        return {name: int(np.prod(shape[2:], dtype=np.int64)) for name, shape in shapes.items()}

    def image_bytes(self, part: PartName) -> int:
        """Return the bytes of a part's float32 output for one image; for a narrowed part those of the whole part."""
        return 4 * int(np.prod(self._shapes.get(self.parts[part.whole].output, (0, 0))[1:], dtype=np.int64))

    def largest_image_bytes(self) -> int:
        """Return the bytes of the largest float32 tensor between two nodes, for one image."""
        return 4 * max(int(np.prod(shape[1:], dtype=np.int64)) for shape in self._shapes.values() if shape[:1] == (0,))

    def weight_bytes(self, part: PartName) -> int:
        """Return the bytes of a part's float32 constants; for a narrowed part those of the whole part."""
        return self._weight_bytes[part.whole]

    @cached_property
    def _weight_bytes(self) -> dict[PartName, int]:
        """Part -> bytes of its constants: trees of thousands of sub-networks ask for each part again and again."""
        used = {
            part: {name for node in nodes for name in node.input if name in self.weights} for part, nodes in self.nodes.items()
        }
        return {part: sum(4 * math.prod(self.weights[name].dims) for name in names) for part, names in used.items()}

    def ranges(self, tensor: str, part: PartName) -> list[Ranges]:
        """Return for each leading axis of a stored constant which indices a part keeps; an empty entry keeps all of them.

        Args:
            tensor: Name of the stored constant.
            part: The part that reads it, narrowed or whole.
        """
        kept = self.topology.kept_channels(part)
        return [] if kept is None else [kept.along(axis) for axis in self.parts[part.whole].axes.get(tensor, ())]

    def narrowed(self, tensor: str, part: PartName, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what a part keeps of the values of a stored constant: all of them for a whole part."""
        for axis, ranges in enumerate(self.ranges(tensor, part)):
            if ranges:
                values = values.take(np.concatenate([np.arange(*span) for span in ranges]), axis)
        return values

    def constant(self, tensor: str, part: PartName, name: str) -> TensorProto:
        """Return a stored constant as a part reads it, under the name that it has in the composed graph."""
        stored = self.weights[tensor]
        if name == tensor:  # not narrowed: shared instead of copied
            return stored
        narrowed: TensorProto = numpy_helper.from_array(self.narrowed(tensor, part, numpy_helper.to_array(stored)), name)
        return narrowed


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return tensor -> shape, 0 where a size depends on the batch, from ONNX's shape inference."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {}
    for info in [*graph.value_info, *graph.input, *graph.output]:
        dims = info.type.tensor_type.shape.dim
        shapes[info.name] = tuple(dim.dim_value if dim.HasField("dim_value") else 0 for dim in dims)
    return shapes
