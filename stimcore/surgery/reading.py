"""Opens an ONNX file of any program: one image input, one output of logits, weights inside or beside it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, helper, inliner, version_converter
from onnx.external_data_helper import uses_external_data

from stimcore.errors import UsageError

OLDEST_OPSET = 13
"""Older operator sets give other meanings to the operators that blocks are made of."""
MEASURING_OPSET = 18
"""From this operator set on, batch norms have a training mode and reductions take their axes as an input."""
LARGEST_BYTES = 2**31 - 1
"""A message of protobuf, as which graphs go to onnxruntime, can't be larger."""


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """An ONNX file, opened.

    Attributes:
        path: The file.
        sha256: Hash of the file and of every file of weights that it names.
        model: The graph with all weights inside, local functions inlined, any number of images.
        input: Name of the image input.
        output: Name of the output.
        sizes: Channels, height and width of the input; None for a size that the file leaves open.
    """

    path: Path
    sha256: str
    model: onnx.ModelProto
    input: str
    output: str
    sizes: tuple[int | None, int | None, int | None]

    @property
    def metadata(self) -> dict[str, str]:
        """The properties that the file has, by name."""
        return {item.key: item.value for item in self.model.metadata_props}

    def image_shape(self, side: int | None = None) -> tuple[int, int, int]:
        """Return the shape `[C, H, W]` of an image.

        Args:
            side: Height and width where the file leaves them open.

        Raises:
            UsageError: The file leaves a size open and `side` doesn't say it.
        """
        channels, height, width = self.sizes
        if channels is None:
            raise UsageError(f"the input of {self.path} has any number of channels", allowed="a fixed number of channels")
        height, width = height or side, width or side
        if height is None or width is None:
            raise UsageError(
                f"{self.path} takes images of any size", todo="Say which size to use: --dataset folder:PATH@PIXELS."
            )
        return channels, height, width


def read_onnx(path: Path) -> OnnxFile:
    """Open an ONNX file.

    Raises:
        UsageError: The file is missing or is not an ONNX model, its weights are missing, or it is something else than one
            classifier of images; the message names what.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}", allowed="an ONNX file")
    try:
        model = onnx.load(path, load_external_data=False)
        weights = sorted({_location(tensor) for tensor in model.graph.initializer if uses_external_data(tensor)})
        onnx.load_external_data_for_model(model, str(path.parent))
    except OSError as reason:
        raise UsageError(f"the weights of {path} can't be read: {reason.strerror or reason}") from reason
    except Exception as reason:  # protobuf raises several types for broken messages, onnx for weights that are elsewhere
        detail = (str(reason).splitlines() or [type(reason).__name__])[0]
        what = "is not an ONNX model" if "pars" in detail.lower() else "can't be read"
        raise UsageError(f"{path} {what} ({detail[:120]})") from reason
    if not model.graph.node:
        raise UsageError(f"{path} is not an ONNX model: it has no nodes")
    digest = hashlib.sha256(path.read_bytes())
    for name in weights:
        digest.update((path.parent / name).read_bytes())
    if model.ByteSize() > LARGEST_BYTES:
        raise UsageError(f"{path} has more than 2 GiB of weights", allowed="networks of up to 2 GiB")
    opset = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        raise UsageError(f"{path} uses operator set {opset} of ONNX", allowed=f"{OLDEST_OPSET} and newer")
    if model.functions:
        model = inliner.inline_local_functions(model)
    if opset < MEASURING_OPSET:
        model = _converted(model, path)
    name, sizes = _image_input(model, path)
    _open_batch(model, name)
    return OnnxFile(
        path=path, sha256=digest.hexdigest(), model=model, input=name, output=_logits_output(model, path), sizes=sizes
    )


def _location(tensor: TensorProto) -> str:
    return str(next(entry.value for entry in tensor.external_data if entry.key == "location"))


def _converted(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Return a model in the operator set in which batch norms can be measured."""
    try:
        return version_converter.convert_version(model, MEASURING_OPSET)
    except Exception as reason:  # the converter is C++ and raises what it likes
        detail = (str(reason).splitlines() or [type(reason).__name__])[0]
        raise UsageError(
            f"{path} can't be brought to operator set {MEASURING_OPSET} ({detail[:120]})",
            todo=f"Export it with opset_version={MEASURING_OPSET}.",
        ) from reason


def _image_input(model: onnx.ModelProto, path: Path) -> tuple[str, tuple[int | None, int | None, int | None]]:
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [info for info in model.graph.input if info.name not in stored]
    if len(inputs) != 1:
        names = ", ".join(info.name for info in inputs) or "none"
        raise UsageError(f"{path} has {len(inputs)} inputs ({names})", allowed="one input, images [N, C, H, W]")
    kind = inputs[0].type.tensor_type
    dims = kind.shape.dim
    if kind.elem_type != TensorProto.FLOAT or len(dims) != 4:
        element = helper.tensor_dtype_to_np_dtype(kind.elem_type) if kind.elem_type else "unknown"
        raise UsageError(
            f"the input {inputs[0].name} of {path} is {element} with {len(dims)} axes", allowed="float32 images [N, C, H, W]"
        )
    sizes = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims[1:]]
    return inputs[0].name, (sizes[0], sizes[1], sizes[2])


def _logits_output(model: onnx.ModelProto, path: Path) -> str:
    if len(model.graph.output) != 1:
        names = ", ".join(info.name for info in model.graph.output)
        raise UsageError(f"{path} has {len(model.graph.output)} outputs ({names})", allowed="one output, logits [N, classes]")
    return str(model.graph.output[0].name)


def _open_batch(model: onnx.ModelProto, name: str) -> None:
    """Let a graph take any number of images; whether it can is found out by running it."""
    for info in model.graph.input:
        if info.name == name:
            info.type.tensor_type.shape.dim[0].Clear()
            info.type.tensor_type.shape.dim[0].dim_param = "N"
    for info in model.graph.output:
        info.type.tensor_type.shape.Clear()
        info.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
