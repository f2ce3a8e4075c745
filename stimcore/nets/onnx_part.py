"""One part of a network as an ONNX graph, traced by torch's older exporter."""

import io
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from stimcore.errors import UsageError
from stimcore.nets.norms import batch_norms
from stimcore.subnets.part_name import PartName

OPSET = 18

NormCall = tuple[_BatchNorm, torch.Size]
"""A batch norm that ran, and the shape of its input."""


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
    calls = unique_norm_calls(name, module.eval(), example)
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings(), _plain_attention(), _silent_log():
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
            f"{in_words(name)} can't be exported to ONNX: {lines[0]}", todo="Write it with operators that torch.onnx knows."
        ) from reason
    model = onnx.load_from_string(buffer.getvalue())
    describe_norms(name, model.graph, calls)
    return model


def describe_norms(name: PartName, graph: onnx.GraphProto, calls: Sequence[NormCall]) -> None:
    """Write the shapes of the inputs of batch norms into a part's graph, in the place of what it says about shapes.

    ONNX's shape inference doesn't reach every batch norm, but nodes are in the order in which the modules ran.

    Args:
        name: Name of the part, for the error message.
        graph: Changed in place.
        calls: What `unique_norm_calls` returned for the part.

    Raises:
        UsageError: The graph has other batch norms than the part has modules.
    """
    nodes = [node for node in graph.node if node.op_type == "BatchNormalization"]
    if len(nodes) != len(calls):
        raise UsageError(
            f"{in_words(name)} computes {len(nodes)} batch norms in ONNX and has {len(calls)} as modules",
            allowed="batch norms that are modules, and instance norms without running statistics",
            todo="Use torch.nn.BatchNorm1d, 2d or 3d in the place of functional.batch_norm and of tracked instance norms.",
        )
    del graph.value_info[:]
    for node, (_, shape) in zip(nodes, calls, strict=True):
        graph.value_info.append(helper.make_tensor_value_info(node.input[0], TensorProto.FLOAT, ["N", *shape[1:]]))


@torch.no_grad()
def norm_calls(module: nn.Module, example: Tensor) -> list[NormCall]:
    """Return the batch norms that run in one forward of a module, in order, each with the shape of its input."""
    calls: list[NormCall] = []

    def record(norm: nn.Module, inputs: tuple[Any, ...], _output: Any) -> None:
        calls.append((cast(_BatchNorm, norm), inputs[0].shape))

    with ExitStack() as stack:
        for norm in batch_norms(module):
            stack.callback(norm.register_forward_hook(record).remove)
        module(example)
    return calls


def unique_norm_calls(name: PartName, module: nn.Module, example: Tensor) -> list[NormCall]:
    """Return what `norm_calls` returns for a part, whose batch norms run once each.

    Args:
        name: Name of the part, for the error message.
        module: The part, in evaluation mode.
        example: What goes into it.

    Raises:
        UsageError: A batch norm runs twice.
    """
    calls = norm_calls(module, example)
    uses = Counter(norm for norm, _ in calls)
    if repeated := [norm for norm, count in uses.items() if count > 1]:
        raise UsageError(
            f"{in_words(name)} uses the batch norm '{_name_of(module, repeated[0])}' {uses[repeated[0]]} times",
            allowed="one use of every batch norm",
            todo="Give each place a batch norm of its own: re-calibration measures the statistics of every place.",
        )
    return calls


def _name_of(module: nn.Module, wanted: nn.Module) -> str:
    names: dict[nn.Module, str] = {layer: name for name, layer in module.named_modules()}
    return names[wanted]


def in_words(name: PartName) -> str:
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


@contextmanager
def _silent_log() -> Iterator[None]:
    """Keep the exporter from printing a graph to standard output when it fails, which it does whatever its options say."""
    log = torch._C._jit_onnx_log
    torch._C._jit_onnx_log = lambda *_: None
    try:
        yield
    finally:
        torch._C._jit_onnx_log = log


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
