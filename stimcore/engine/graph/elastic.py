"""Pass: all ordered sub-networks in one graph, whose second input chooses the depths.

    images ─> stem ─> block1 ─> If depths[0] >= 2: block2 ─> If depths[0] >= 3: ... ─> first block of stage 2 ─> ...

A stage is a chain of branches inside each other, because a block can only run where the block before it runs. Weights are
constants of the branch that reads them: onnxruntime rearranges constants for the processor's caches (prepacking) only where
they belong to the graph that reads them, and one that reads weights of the graph around it is half as fast.

The re-calibrated statistics of a batch norm depend on the depths of the stages before its own, and on nothing else: the blocks
before it in its own stage always run. They are stored as a table with a row for every choice of these depths. Where there is a
single row, batch norms are folded.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from stimcore.engine.graph.compose import IR_VERSION, Step, add_stored, copy_steps
from stimcore.engine.graph.fold import folded_nodes
from stimcore.engine.graph.main_graph import MainGraph, Statistics
from stimcore.engine.prefix_tree import Unit
from stimcore.subnets.part_name import HEAD, STEM, PartName, Route

DEPTHS = "depths"
"""The second input: int64 `[stages]`, the number of blocks that run in every stage; what is outside of 1 to the size of a stage
counts as the nearest of the two."""


def elastic_graph(graph: MainGraph, statistics: Mapping[Route, Statistics]) -> onnx.ModelProto:
    """Return one graph of all ordered sub-networks.

    Requires:
        `statistics` has every batch norm of every prefix of every ordered sub-network. No layers concatenate.

    Ensures:
        With the depths of a sub-network the graph computes what the sub-network computes; the graph needs no other file.

    Args:
        graph: The main network.
        statistics: Prefix -> re-calibrated statistics of its last part.
    """
    return _Elastic(graph, statistics).model()


class _Elastic:
    """The graph under construction."""

    def __init__(self, graph: MainGraph, statistics: Mapping[Route, Statistics]) -> None:
        self._graph, self._statistics = graph, statistics
        self._sizes = graph.topology.sizes
        route = graph.topology.route(graph.topology.full)
        self._steps = {
            step.part: step for step in copy_steps(graph, Unit.whole(route), entry="images", names={route: "logits"})
        }

    def model(self) -> onnx.ModelProto:
        """Return the graph as a model."""
        constants = self._index_constants()
        nodes = self._index_nodes()
        border = self._add(self._steps[STEM], 0, "images", nodes, constants)
        for number, stage in enumerate(self._graph.topology.stages):
            border = self._stage(number, stage, border, nodes, constants)
        self._add(self._steps[HEAD], len(self._sizes), border, nodes, constants)
        composed = helper.make_graph(
            nodes,
            "elastic",
            [
                helper.make_tensor_value_info("images", TensorProto.FLOAT, None),
                helper.make_tensor_value_info(DEPTHS, TensorProto.INT64, [len(self._sizes)]),
            ],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
            [constants[name] for name in sorted(constants)],
        )
        return helper.make_model(composed, opset_imports=self._graph.opsets, ir_version=IR_VERSION)

    def _index_constants(self) -> dict[str, TensorProto]:
        """Return the constants with which rows of tables are found, and branches are decided."""
        count = len(self._sizes)
        values = {"depths:low": np.ones(count, np.int64), "depths:high": np.array(self._sizes, np.int64)}
        for before in range(1, count + 1):
            values[f"stride:{before}"] = self._strides(before)
        for stage, size in enumerate(self._sizes):
            values[f"stage:{stage}"] = np.array(stage, np.int64)
            values |= {f"block:{depth}": np.array(depth, np.int64) for depth in range(2, size + 1)}
        return {name: numpy_helper.from_array(value, name) for name, value in values.items()}

    def _strides(self, before: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return what one block more of every stage adds to the row of tables behind `before` stages."""
        strides = np.zeros(len(self._sizes), np.int64)
        for stage in range(before):
            strides[stage] = np.prod(self._sizes[stage + 1 : before], dtype=np.int64)
        return strides

    def _index_nodes(self) -> list[NodeProto]:
        """Return the nodes that compute the row `row:K` of tables behind K stages, and the depth `depth:S` of every stage."""
        op = helper.make_node
        nodes = [
            op("Max", [DEPTHS, "depths:low"], ["depths:from"]),
            op("Min", ["depths:from", "depths:high"], ["depths:valid"]),
            op("Sub", ["depths:valid", "depths:low"], ["depths:more"]),
        ]
        for before in range(1, len(self._sizes) + 1):
            nodes.append(op("Mul", ["depths:more", f"stride:{before}"], [f"rows:{before}"]))
            nodes.append(op("ReduceSum", [f"rows:{before}"], [f"row:{before}"], keepdims=0))
        for stage in range(len(self._sizes)):
            nodes.append(op("Gather", ["depths:valid", f"stage:{stage}"], [f"depth:{stage}"]))
        for number, node in enumerate(nodes):
            node.name = f"depths/{node.op_type}{number}"
        return nodes

    def _stage(
        self, number: int, stage: Sequence[int], border: str, nodes: list[NodeProto], constants: dict[str, TensorProto]
    ) -> str:
        """Add a stage; return its output."""
        output = self._add(self._steps[PartName.block(stage[0])], number, border, nodes, constants)
        if len(stage) == 1:
            return output
        nodes += self._branch(number, stage, 1, output)
        return f"stage{number}:{1}"

    def _branch(self, number: int, stage: Sequence[int], place: int, border: str) -> list[NodeProto]:
        """Return the nodes that run the block at `place` of a stage, and those behind it, if the depth of the stage says so.

        Their output is `stageS:PLACE`.
        """
        inner: list[NodeProto] = []
        constants: dict[str, TensorProto] = {}
        output = self._add(self._steps[PartName.block(stage[place])], number, border, inner, constants)
        if place + 1 < len(stage):
            inner += self._branch(number, stage, place + 1, output)
            output = f"stage{number}:{place + 1}"
        condition, result, skipped = (f"stage{number}:{place}{ending}" for ending in (":runs", "", ":skipped"))
        then = _branch_graph(f"block{stage[place]}", inner, output, constants)
        other = _branch_graph(f"no block{stage[place]}", [helper.make_node("Identity", [border], [skipped])], skipped, {})
        return [
            helper.make_node(
                "GreaterOrEqual",
                [f"depth:{number}", f"block:{place + 1}"],
                [condition],
                name=f"block{stage[place]}/GreaterOrEqual",
            ),
            helper.make_node("If", [condition], [result], name=f"block{stage[place]}/If", then_branch=then, else_branch=other),
        ]

    def _add(self, step: Step, before: int, border: str, nodes: list[NodeProto], constants: dict[str, TensorProto]) -> str:
        """Add the nodes and constants of a part behind `before` stages; return its output."""
        entry = self._graph.parts[step.part].input
        entry = "images" if step.part == STEM else entry
        rows = self._rows(step.part, before)
        own: dict[str, TensorProto] = {}
        if len(rows) == 1:
            part_nodes = folded_nodes(self._graph, step, rows[0], own)
        else:
            part_nodes = self._with_tables(step, before, rows, own)
        add_stored(self._graph, step, part_nodes, own)
        # what an exporter stored once for several parts is a constant of each of them here, under different names
        names = {name: f"{step.part}|{name}" for name in own if not name.startswith(f"{step.part}/")}
        for node in part_nodes:
            node.input[:] = [names.get(name, border if name == entry else name) for name in node.input]
            nodes.append(node)
        for name, tensor in own.items():
            copy = TensorProto()
            copy.CopyFrom(tensor)
            copy.name = names.get(name, name)
            constants[copy.name] = copy
        return step.output

    def _rows(self, part: PartName, before: int) -> list[Statistics]:
        """Return the statistics of a part for every choice of the depths of the stages before it, in the order of the rows."""
        stages = self._graph.topology.stages
        choices = list(itertools.product(*(range(1, size + 1) for size in self._sizes[:before])))
        if not self._graph.norms(part):
            return [{}]
        rows = []
        for depths in choices:
            blocks = [block for stage, depth in zip(stages, depths, strict=False) for block in stage[:depth]]
            if part.kind == "block":
                own = stages[before]
                blocks += own[: own.index(part.number)]
            prefix = (STEM, *map(PartName.block, blocks), part) if part != STEM else (STEM,)
            rows.append(self._statistics[prefix])
        return rows

    def _with_tables(self, step: Step, before: int, rows: Sequence[Statistics], own: dict[str, TensorProto]) -> list[NodeProto]:
        """Return the nodes of a part whose batch norms read a row of a table.

        The part has one table for all of its batch norms, means and variances in a row: a row is looked up once and divided,
        instead of once for every mean and every variance, because every node of a graph costs time, however little it does.
        """
        norms = [(node, step.norm(node)) for node in step.nodes if node.op_type == "BatchNormalization"]
        table = np.stack([np.concatenate([np.concatenate(row[norm]) for _, norm in norms]) for row in rows])
        sizes = np.array([len(moment) for _, norm in norms for moment in rows[0][norm]], np.int64)
        name = f"{step.part}/statistics"
        for key, value in ((f"{name}.rows", table), (f"{name}.sizes", sizes)):
            own[key] = numpy_helper.from_array(value, key)
        moments = [f"{norm}.{role}" for _, norm in norms for role in ("mean", "var")]
        nodes = [
            helper.make_node("Gather", [f"{name}.rows", f"row:{before}"], [f"{name}.row"], name=f"{name}/Gather", axis=0),
            helper.make_node("Split", [f"{name}.row", f"{name}.sizes"], moments, name=f"{name}/Split", axis=0),
        ]
        for node, norm in norms:
            node.input[3:5] = [f"{norm}.mean", f"{norm}.var"]
        return [*nodes, *step.nodes]


def _branch_graph(name: str, nodes: Sequence[NodeProto], output: str, constants: Mapping[str, TensorProto]) -> onnx.GraphProto:
    info = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    return helper.make_graph(list(nodes), name, [], [info], [constants[key] for key in sorted(constants)])
