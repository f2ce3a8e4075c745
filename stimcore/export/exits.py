"""One file of the main network with its early exits as further outputs, compared with torch and measured in onnxruntime.

Layer supervision, stage supervision and self distillation train a classifier behind inner blocks. These heads are no part of
the network, so that the other files of a bundle don't have them; they lie in the checkpoint of the run.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, compose, helper
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stimcore.bundle import Bundle, ExitEntry
from stimcore.bundle.card import write_card
from stimcore.bundle.store import update_bundle, writing
from stimcore.engine.engine import Engine
from stimcore.engine.graph.optimise import optimised_graph
from stimcore.engine.metadata import Measured, add_metadata
from stimcore.engine.provider import session_options
from stimcore.engine.spotcheck import CHECK_BATCH
from stimcore.errors import CheckpointError, ParityError, UsageError
from stimcore.export.exporter import OnProgress, ignore_progress
from stimcore.export.parity import FLOAT32, Floats, Parity
from stimcore.export.standalone import FOLDER
from stimcore.methods.table import is_method, restore
from stimcore.nets.cost import Cost, Costs
from stimcore.nets.onnx_part import export_part
from stimcore.nets.staged import StagedNet
from stimcore.reference.calibrate import recalibrated
from stimcore.runs import checkpoint
from stimcore.runs.trained_run import TrainedRun
from stimcore.subnets.part_name import PartName

FILE = "exits.onnx"


@dataclass(frozen=True)
class Exits:
    """A written file.

    Attributes:
        file: The file.
        bytes: Its bytes.
        entries: Its exits in the order of their blocks, as the manifest lists them.
    """

    file: str
    bytes: int
    entries: Sequence[ExitEntry]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"file": self.file, "bytes": self.bytes, "exits": [asdict(entry) for entry in self.entries]}


def trained_exits(trained: TrainedRun) -> dict[int, nn.Module]:
    """Return the heads that a run trained, in evaluation mode: block -> the head that reads its output.

    Raises:
        UsageError: The run's method has no heads that classify.
        CheckpointError: The checkpoint has no heads, or those of another version of the method.
    """
    run = trained.run
    exits: Mapping[int, nn.Module] = {}
    if is_method(run.method):
        method = restore(run.method, run.options)
        heads = method.make_auxiliary(trained.net)
        if heads is not None and method.exits(trained.net, heads):
            state = checkpoint.load(trained.checkpoint).auxiliary
            try:
                heads.load_state_dict(dict(state))
            except RuntimeError as reason:
                raise CheckpointError(
                    f"{trained.checkpoint} has no heads for the exits of '{run.method}'",
                    todo="Export the exits of a run folder that stimcore.train wrote.",
                ) from reason
            exits = method.exits(trained.net, heads.eval())
    if not exits:
        raise UsageError(
            f"exits of a run of the method '{run.method}', which trains no heads behind inner blocks",
            allowed="runs of layer_supervision, stage_supervision and self_distillation",
        )
    return dict(sorted(exits.items()))


def write_exits(trained: TrainedRun, bundle: Bundle, on_progress: OnProgress = ignore_progress) -> Exits:
    """Write `standalone/exits.onnx` into a bundle, and the exits into its manifest and the model card.

    Args:
        trained: The run that the bundle was exported from.
        bundle: Opened and verified.
        on_progress: Called after every exit.

    Raises:
        UsageError: The run's method has no heads that classify.
        CheckpointError: The checkpoint has no heads.
        ParityError: An output differs from torch's. Nothing is written then.
    """
    heads = trained_exits(trained)
    experiment, topology = bundle.experiment, bundle.topology
    model, optimiser = optimised_graph(_graph(Engine(bundle, device="cpu"), trained.net, heads))
    session = ort.InferenceSession(model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"])
    of_file, expected = _logits(session, trained.net, heads, bundle)
    labels = experiment.evaluation[1]
    costs, entries = _costs(trained.net, heads), list[ExitEntry]()
    for output, logits in of_file.items():
        parity = Parity.of(logits, expected[output])
        if (reason := parity.complaint(f"{FILE}, output {output}", FLOAT32)) is not None:
            raise ParityError(reason)
        if output == "logits":
            measured = Measured(correct=_correct(logits, labels), images=len(labels), parity=parity.error)
            continue
        block = int(output.removeprefix("exit"))
        entries.append(
            ExitEntry(
                file=f"{FOLDER}/{FILE}",
                output=output,
                block=block,
                accuracy_pct=100 * _correct(logits, labels) / len(labels),
                correct=_correct(logits, labels),
                correct_torch=_correct(expected[output], labels),
                parity=parity.error,
                agreement=parity.agreement,
                parameters=costs[block].parameters,
                macs=costs[block].macs,
            )
        )
        on_progress(len(entries), len(heads), f"{FILE} {output}: {entries[-1].accuracy_pct:.2f}%, parity {parity.error:.1e}")
    add_metadata(model, experiment, bundle.manifest, topology.full, measured, optimiser=optimiser)
    words = ", ".join(f"{entry.output} (after block {entry.block}, {entry.accuracy_pct:.2f}%)" for entry in entries)
    model.doc_string += f" Further outputs are early exits, each [N, {len(experiment.classes)}]: {words}."
    value = [{key: getattr(entry, key) for key in ("output", "block", "correct", "parameters", "macs")} for entry in entries]
    content = {"images": len(labels), "exits": value}
    model.metadata_props.add(key="exits", value=json.dumps(content, separators=(",", ":")))
    onnx.checker.check_model(model, full_check=True)
    serialised = model.SerializeToString()
    update_bundle(bundle.path, lambda _present: {f"{FOLDER}/{FILE}": serialised}, exits=entries)
    with writing(experiment.path):
        write_card(experiment.path)
    return Exits(str(bundle.path / FOLDER / FILE), len(serialised), entries)


def _graph(engine: Engine, net: StagedNet, heads: Mapping[int, nn.Module]) -> onnx.ModelProto:
    """Return the main network, batch norms folded, with an output `exitN` for the head behind every block N."""
    full = engine.bundle.topology.full
    model = engine.network(full, engine.calibrated([full]), folded=True)
    borders = {entry.name: entry.output for entry in engine.bundle.manifest.parts}
    examples = _block_outputs(net, torch.zeros(2, *net.input_shape), heads)
    for block, head in heads.items():
        border = borders[PartName.block(block)]
        graph = export_part(PartName.block(block), head, examples[block])
        graph.ir_version = model.ir_version
        del graph.graph.value_info[:]
        graph = compose.add_prefix(graph, f"exit{block}/")
        shape = ["N", *examples[block].shape[1:]]
        # merging joins an output with an input: the border is an output of the network for as long as that takes
        model.graph.output.append(helper.make_tensor_value_info(border, TensorProto.FLOAT, shape))
        kept = [output.name for output in model.graph.output if output.name != border]
        model = compose.merge_models(model, graph, io_map=[(border, f"exit{block}/x")], outputs=[*kept, f"exit{block}/y"])
        _rename_output(model.graph, f"exit{block}/y", f"exit{block}", net.num_classes)
    return model


def _rename_output(graph: onnx.GraphProto, old: str, new: str, num_classes: int) -> None:
    """Give the last output of a graph another name, and its shape."""
    for node in graph.node:
        node.output[:] = [new if name == old else name for name in node.output]
    graph.output[-1].CopyFrom(helper.make_tensor_value_info(new, TensorProto.FLOAT, ["N", num_classes]))


@torch.no_grad()
def _block_outputs(net: StagedNet, images: Tensor, heads: Mapping[int, nn.Module]) -> dict[int, Tensor]:
    """Return what leaves the blocks that have a head, and under 0 the logits."""
    outputs, x = dict[int, Tensor](), images
    for part in net.route(net.topology.full):
        x = part.module(x)
        if part.name.kind == "block" and part.name.number in heads:
            outputs[part.name.number] = x
    return {**outputs, 0: x}


@torch.no_grad()
def _logits(
    session: ort.InferenceSession, net: StagedNet, heads: Mapping[int, nn.Module], bundle: Bundle
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return the logits of every output for all evaluation images, in onnxruntime and in torch."""
    experiment, names = bundle.experiment, ["logits", *(f"exit{block}" for block in heads)]
    calibration = torch.from_numpy(experiment.normalise(experiment.calibration))
    reference = recalibrated(net, net.topology.full, calibration)
    rows: tuple[list[list[Floats]], list[list[Floats]]] = ([], [])
    pixels = experiment.evaluation[0]
    for start in range(0, len(pixels), CHECK_BATCH):
        images = experiment.normalise(pixels[start : start + CHECK_BATCH])
        rows[0].append(session.run(names, {"images": images}))
        outputs = _block_outputs(reference, torch.from_numpy(images), heads)
        rows[1].append([outputs[0].numpy(), *(head(outputs[block]).numpy() for block, head in heads.items())])
    first, second = (dict(zip(names, map(np.concatenate, zip(*batches, strict=True)), strict=True)) for batches in rows)
    return first, second


@torch.no_grad()
def _costs(net: StagedNet, heads: Mapping[int, nn.Module]) -> dict[int, Cost]:
    """Return what runs up to every exit, its head included."""
    parts, outputs = Costs(net).parts(net.topology.full), _block_outputs(net, torch.zeros(1, *net.input_shape), heads)
    costs, total = dict[int, Cost](), Cost(0, 0)
    for name, cost in parts.items():
        total += cost
        if name.kind == "block" and name.number in heads:
            head = heads[name.number]
            with FlopCounterMode(display=False) as counter:
                head(outputs[name.number])
            parameters = sum(parameter.numel() for parameter in head.parameters())
            costs[name.number] = total + Cost(parameters, counter.get_total_flops() // 2)
    return costs


def _correct(logits: Floats, labels: np.ndarray[Any, Any]) -> int:
    return int((logits.argmax(1) == labels).sum())
