"""Graph surgery: any sub-network out of `main.onnx`, with batch norms measuring, fixed or folded.

Works on `onnx` protos. Every batch norm owns its two statistics inputs, named `NODE.mean` and `NODE.var`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from stimcore.bundle import PartEntry

Statistics = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Batch norm's node name -> mean and variance, float32 `[C]`."""
IR_VERSION = 10


class Graph:
    """The parts of a main network.

    Args:
        model: The main network, weights loaded.
        parts: Its parts in order; a node belongs to the part whose name its own begins with.
    """

    def __init__(self, model: onnx.ModelProto, parts: Sequence[PartEntry]) -> None:
        self.parts = {part.name: part for part in parts}
        self.opset = next(item.version for item in model.opset_import if item.domain == "")
        self.weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self.nodes: dict[str, list[onnx.NodeProto]] = {name: [] for name in self.parts}
        for node in model.graph.node:
            self.nodes[node.name.split("/", 1)[0]].append(node)

    @classmethod
    def load(cls, path: Path, parts: Sequence[PartEntry]) -> "Graph":
        """Reads `main.onnx` and the weights beside it."""
        return cls(onnx.load(str(path)), parts)

    def norms(self, part: str) -> list[str]:
        """Names of a part's batch norms."""
        return [node.name for node in self.nodes[part] if node.op_type == "BatchNormalization"]

    def stored(self, part: str) -> Statistics:
        """The statistics that `main.onnx` itself holds."""
        return {n: (self._array(f"{n}.mean"), self._array(f"{n}.var")) for n in self.norms(part)}

    def _array(self, name: str) -> NDArray[np.float32]:
        return np.array(numpy_helper.to_array(self.weights[name]), np.float32)

    def measuring(self, part: str) -> tuple[onnx.ModelProto, list[str]]:
        """One part with batch norms on batch statistics.

        Returns:
            A model with the outputs `out`, then per batch norm batch mean, population variance and input shape;
            and the batch norms' names in that order.
        """
        nodes, extra = [], []
        for node in self._chain([part], "in", "out"):
            if node.op_type == "BatchNormalization":
                kept = [a for a in node.attribute if a.name == "epsilon"]
                del node.attribute[:], node.output[1:]
                node.attribute.extend(
                    [*kept, helper.make_attribute("training_mode", 1), helper.make_attribute("momentum", 0.0)]
                )
                own = [f"{node.name}:mean", f"{node.name}:var", f"{node.name}:shape"]
                node.output.extend(own[:2])
                nodes.append(helper.make_node("Shape", [node.input[0]], [own[2]], name=f"{node.name}:shape"))
                extra += [(own[0], TensorProto.FLOAT), (own[1], TensorProto.FLOAT), (own[2], TensorProto.INT64)]
            nodes.append(node)
        return self._model(nodes, "in", [("out", TensorProto.FLOAT), *extra], {}), self.norms(part)

    def fixed(
        self,
        route: Sequence[str],
        statistics: Mapping[str, Statistics],
        *,
        names: tuple[str, str] = ("in", "out"),
        folded: bool = False,
    ) -> onnx.ModelProto:
        """A row of parts as one self-contained model with fixed statistics.

        Args:
            route: Part names in order.
            statistics: Part -> statistics of its batch norms.
            names: Of input and output tensor.
            folded: Take batch norms out by scaling the convolutions before them.
        """
        nodes = self._chain(route, *names)
        constants: dict[str, TensorProto] = {}
        for part in route:
            for norm, (mean, var) in statistics[part].items():
                constants[f"{norm}.mean"] = numpy_helper.from_array(mean, f"{norm}.mean")
                constants[f"{norm}.var"] = numpy_helper.from_array(var, f"{norm}.var")
        if folded:
            nodes, constants = self._fold(nodes, constants)
        return self._model(nodes, names[0], [(names[1], TensorProto.FLOAT)], constants)

    def _chain(self, route: Sequence[str], source: str, target: str) -> list[onnx.NodeProto]:
        """Copies of the parts' nodes, each part's border tensors renamed to what is before and behind it."""
        nodes = []
        border = source
        for i, name in enumerate(route):
            part = self.parts[name]
            end = target if i + 1 == len(route) else f"{name}:end"
            rename = {part.input: border, part.output: end}
            for original in self.nodes[name]:
                node = onnx.NodeProto()
                node.CopyFrom(original)
                node.input[:] = [rename.get(tensor, tensor) for tensor in node.input]
                node.output[:] = [rename.get(tensor, tensor) for tensor in node.output]
                nodes.append(node)
            border = end
        return nodes

    def _model(
        self,
        nodes: Sequence[onnx.NodeProto],
        source: str,
        outputs: Sequence[tuple[str, int]],
        constants: Mapping[str, TensorProto],
    ) -> onnx.ModelProto:
        used = {name for node in nodes for name in node.input}
        held = {**{name: self.weights[name] for name in used if name in self.weights}, **constants}
        graph = helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info(source, TensorProto.FLOAT, None)],
            [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs],
            [held[name] for name in sorted(used & set(held))],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=IR_VERSION)

    def _fold(
        self, nodes: list[onnx.NodeProto], constants: dict[str, TensorProto]
    ) -> tuple[list[onnx.NodeProto], dict[str, TensorProto]]:
        """Scales every convolution by the batch norm that alone reads it, and takes the batch norm out."""
        producer = {name: node for node in nodes for name in node.output}
        readers: dict[str, int] = {}
        for node in nodes:
            for name in node.input:
                readers[name] = readers.get(name, 0) + 1
        kept, constants = [], dict(constants)
        for node in nodes:
            before = producer.get(node.input[0]) if node.input else None
            if node.op_type != "BatchNormalization" or before is None or before.op_type != "Conv" or readers[node.input[0]] > 1:
                kept.append(node)
                continue
            scale, shift = self._array(node.input[1]), self._array(node.input[2])
            mean, var = (np.array(numpy_helper.to_array(constants.pop(node.input[i])), np.float64) for i in (3, 4))
            epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
            factor = scale / np.sqrt(var + epsilon)
            weight = self._array(before.input[1])
            bias = self._array(before.input[2]) if len(before.input) > 2 else np.zeros(len(mean), np.float32)
            names = [f"{before.name}.weight", f"{before.name}.bias"]
            folded = weight * factor.reshape(-1, *[1] * (weight.ndim - 1)), (bias - mean) * factor + shift
            for name, value in zip(names, folded, strict=True):
                constants[name] = numpy_helper.from_array(value.astype(np.float32), name)
            before.input[:] = [before.input[0], *names]
            before.output[0] = node.output[0]
        return kept, constants
