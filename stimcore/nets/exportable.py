"""The check that tells before training whether every part of a network will be an ONNX graph."""

from typing import cast

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stimcore.errors import Unavailable, UsageError
from stimcore.nets.norms import batch_norms
from stimcore.nets.onnx_capture import captured_parts
from stimcore.nets.onnx_part import export_part, in_words
from stimcore.nets.staged import StagedNet
from stimcore.subnets.part_name import PartName

LARGEST_DIFFERENCE = 1e-4
"""How far an output in ONNX may be from torch's, as a share of the largest output; the exporter allows the same of logits."""
_LOG_NOTHING = 4


def check_exportable(net: StagedNet) -> None:
    """Check that every part of a network can be exported and computes in ONNX what it computes in torch.

    A network is checked before its first epoch, so that nobody trains for hours what can't leave the run folder. torch's older
    exporter is asked first, because it takes tenths of a second; what it refuses may still pass through the current one.

    Args:
        net: With any weights; its modes and statistics stay as they are.

    Raises:
        UsageError: Neither exporter can express a part; the message names it and the reason.

    Example:
        >>> from stimcore.nets.catalogue import build
        >>> check_exportable(build("resnet8", input_shape=(1, 8, 8), num_classes=3))
    """
    route = net.route(net.topology.full)
    modes = {layer: layer.training for part in route for layer in part.module.modules()}
    places: dict[_BatchNorm, PartName] = {}
    # exported with two images and run with three, so that a size that was taken for a constant is found
    images = torch.rand((3, *net.input_shape), generator=torch.Generator().manual_seed(0))
    try:
        for part in route:
            for norm in batch_norms(part.module):
                if places.setdefault(norm, part.name) != part.name:
                    raise UsageError(
                        f"{in_words(places[norm])} and {in_words(part.name)} share a batch norm",
                        allowed="one use of every batch norm",
                        todo="Give each of them a batch norm of its own.",
                    )
        try:
            x = images
            for part in route:
                x = _check_part(part.name, part.module, export_part(part.name, part.module, x[:2]), x)
        except UsageError as refusal:
            _check_captured(net, images, refusal)
    finally:
        for layer, mode in modes.items():
            layer.training = mode


def _check_captured(net: StagedNet, images: Tensor, refusal: UsageError) -> None:
    """Check a network through torch's current exporter.

    Args:
        net: In evaluation mode.
        images: `float32[3, C, H, W]`
        refusal: Why the older exporter refused it: it names the part, which the current one does not.

    Raises:
        UsageError: The current exporter refuses it, too.
    """
    try:
        x = images
        for part, model in zip(net.route(net.topology.full), captured_parts(net), strict=True):
            x = _check_part(part.name, part.module, model, x)
    except (UsageError, Unavailable):
        raise refusal from None


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
            f"{in_words(name)} doesn't run in onnxruntime: {str(reason).splitlines()[0]}",
            todo="Does something in it depend on the number of images? Write x.shape[0] where you need it, not len(x).",
        ) from reason
    reference = expected.numpy()
    largest = float(np.abs(reference).max())
    if output.shape != reference.shape or not float(np.abs(output - reference).max()) <= LARGEST_DIFFERENCE * max(
        largest, 1e-6
    ):
        raise UsageError(
            f"{in_words(name)} computes something else in ONNX than in torch",
            todo="Is there something random in it, or a Python branch that depends on the values or the number of images?",
        )
    return cast(Tensor, expected)
