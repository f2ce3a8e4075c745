"""One part of a network as an ONNX graph, and the checks that tell before training whether it will be one."""

import io
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from stimcore.errors import UsageError
from stimcore.nets.norms import batch_norms
from stimcore.nets.staged import StagedNet
from stimcore.subnets.part_name import PartName

OPSET = 18
LARGEST_DIFFERENCE = 1e-4
"""How far an output in ONNX may be from torch's, as a share of the largest output; the exporter allows the same of logits."""
_LOG_NOTHING = 4


def export_part(name: PartName, module: nn.Module, example: Tensor) -> onnx.ModelProto:
    """Return the graph of one part; its `value_info` has the inputs of its batch norms.

    torch's TorchScript exporter is used because it keeps batch norms as nodes if it preserves the mode and folds no constants.

    Args:
        name: Name of the part, for the error message.
        module: The part; it is in evaluation mode afterwards.
        example: What goes into it, `[B, ...]` with B from 2: exporters may take a batch of one for a constant.

    Raises:
        UsageError: The part can't be exported, uses a batch norm twice, or has one that is no module of its own.
    """
    calls = norm_calls(module.eval(), example)
    uses = Counter(norm for norm, _ in calls)
    if repeated := [norm for norm, count in uses.items() if count > 1]:
        raise UsageError(
            f"{_in_words(name)} uses the batch norm '{_name_of(module, repeated[0])}' {uses[repeated[0]]} times",
            allowed="one use of every batch norm",
            todo="Give each place a batch norm of its own: re-calibration measures the statistics of every place.",
        )
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings(), _plain_attention():
            warnings.simplefilter("ignore")  # it warns that it is deprecated, once for each part
            torch.onnx.export(
                module,
                (example,),
                buffer,  # type: ignore[arg-type]  # the stub knows paths only
                dynamo=False,
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
                opset_version=OPSET,
                input_names=["x"],
                output_names=["y"],
                dynamic_axes={"x": {0: "N"}, "y": {0: "N"}},
            )
    except Exception as reason:  # the exporter runs the user's code, and raises many types of errors of its own
        lines = str(reason).splitlines() or [type(reason).__name__]
        raise UsageError(
            f"{_in_words(name)} can't be exported to ONNX: {lines[0]}", todo="Write it with operators that torch.onnx knows."
        ) from reason
    model = onnx.load_from_string(buffer.getvalue())
    nodes = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    if len(nodes) != len(calls):
        raise UsageError(
            f"{_in_words(name)} computes {len(nodes)} batch norms in ONNX and has {len(calls)} as modules",
            allowed="batch norms that are modules, and instance norms without running statistics",
            todo="Use torch.nn.BatchNorm1d, 2d or 3d in the place of functional.batch_norm and of tracked instance norms.",
        )
    # ONNX's shape inference doesn't reach every batch norm, but nodes are in the order in which the modules ran
    del model.graph.value_info[:]
    for node, (_, shape) in zip(nodes, calls, strict=True):
        info = helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, ["N", *shape[1:]])
        model.graph.value_info.append(info)
    return model


def check_exportable(net: StagedNet) -> None:
    """Check that every part of a network can be exported and computes in ONNX what it computes in torch.

    A network is checked before its first epoch, so that nobody trains for hours what can't leave the run folder.

    Args:
        net: With any weights; its modes and statistics stay as they are.

    Raises:
        UsageError: A part can't be exported; the message names it and the reason.

    Example:
        >>> from stimcore.nets.catalogue import build
        >>> check_exportable(build("resnet8", input_shape=(1, 8, 8), num_classes=3))
    """
    modes = {layer: layer.training for part in net.route(net.topology.full) for layer in part.module.modules()}
    places: dict[_BatchNorm, PartName] = {}
    # exported with two images and run with three, so that a size that was taken for a constant is found
    x = torch.rand((3, *net.input_shape), generator=torch.Generator().manual_seed(0))
    try:
        for part in net.route(net.topology.full):
            for norm in batch_norms(part.module):
                if places.setdefault(norm, part.name) != part.name:
                    raise UsageError(
                        f"{_in_words(places[norm])} and {_in_words(part.name)} share a batch norm",
                        allowed="one use of every batch norm",
                        todo="Give each of them a batch norm of its own.",
                    )
            model = export_part(part.name, part.module, x[:2])
            x = _check_part(part.name, part.module, model, x)
    finally:
        for layer, mode in modes.items():
            layer.training = mode


@torch.no_grad()
def _check_part(name: PartName, module: nn.Module, model: onnx.ModelProto, x: Tensor) -> Tensor:
    """Compare a part in torch and in ONNX; return its output in torch."""
    expected = module(x)
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = _LOG_NOTHING, 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        output = session.run(None, {"x": x.numpy()})[0]
    except Exception as reason:  # onnxruntime raises one type of error per status code
        raise UsageError(
            f"{_in_words(name)} doesn't run in onnxruntime: {str(reason).splitlines()[0]}",
            todo="Does something in it depend on the number of images? Write x.shape[0] where you need it, not len(x).",
        ) from reason
    reference = expected.numpy()
    largest = float(np.abs(reference).max())
    if output.shape != reference.shape or not float(np.abs(output - reference).max()) <= LARGEST_DIFFERENCE * max(
        largest, 1e-6
    ):
        raise UsageError(
            f"{_in_words(name)} computes something else in ONNX than in torch",
            todo="Is there something random in it, or a Python branch that depends on the values or the number of images?",
        )
    return cast(Tensor, expected)


@torch.no_grad()
def norm_calls(module: nn.Module, example: Tensor) -> list[tuple[_BatchNorm, torch.Size]]:
    """Return the batch norms that run in one forward of a module, in order, each with the shape of its input."""
    calls: list[tuple[_BatchNorm, torch.Size]] = []

    def record(norm: nn.Module, inputs: tuple[Any, ...], _output: Any) -> None:
        calls.append((cast(_BatchNorm, norm), inputs[0].shape))

    with ExitStack() as stack:
        for norm in batch_norms(module):
            stack.callback(norm.register_forward_hook(record).remove)
        module(example)
    return calls


def _name_of(module: nn.Module, wanted: nn.Module) -> str:
    names: dict[nn.Module, str] = {layer: name for name, layer in module.named_modules()}
    return names[wanted]


def _in_words(name: PartName) -> str:
    """Return the name of a part in a sentence: `block 3`, `the head`."""
    text = str(name)
    return f"block {text.removeprefix('block')}" if name.kind == "block" else f"the {text}"


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Have attention written as matrix products inside the block.

    While a graph is traced, sizes are tensors. torch's own function refuses those as arguments, and the fast path of its layers
    is one operator that ONNX doesn't have.
    """
    fused, fast = functional.scaled_dot_product_attention, torch.backends.mha.get_fastpath_enabled()
    functional.scaled_dot_product_attention = _attention
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = fused
        torch.backends.mha.set_fastpath_enabled(fast)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,  # noqa: ARG001  # torch's signature; nothing is dropped in evaluation mode
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return softmax(query key^T * scale + mask) value: the definition of `scaled_dot_product_attention` in torch's manual."""
    if enable_gqa:
        repeats = int(query.shape[-3]) // int(key.shape[-3])
        key, value = key.repeat_interleave(repeats, -3), value.repeat_interleave(repeats, -3)
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(int(query.shape[-1])) if scale is None else scale)
    if is_causal:
        causal = torch.ones(int(query.shape[-2]), int(key.shape[-2]), dtype=torch.bool).tril()
        scores = scores.masked_fill(~causal, -math.inf)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return torch.softmax(scores, -1) @ value
