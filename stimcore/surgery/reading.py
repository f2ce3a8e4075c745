"""Opens an ONNX file of any program: one image input, one output of logits, weights inside or beside it."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime as ort
from onnx import NodeProto, TensorProto, helper, inliner, version_converter
from onnx.external_data_helper import uses_external_data

from stimcore.engine.cuda import CPU
from stimcore.engine.provider import session_options
from stimcore.errors import UsageError

OLDEST_OPSET = 13
"""Older operator sets give other meanings to the operators that blocks are made of."""
MEASURING_OPSET = 18
"""From this operator set on, batch norms have a training mode and reductions take their axes as an input."""
LARGEST_BYTES = 2**31 - 1
"""A message of protobuf, as which graphs go to onnxruntime, can't be larger."""
TO_PROBABILITIES = frozenset({"Softmax", "LogSoftmax"})
"""Operators that turn logits into probabilities or their logarithms; logits are what enters them."""
ONE_BY_ONE = frozenset({"Sigmoid", "HardSigmoid"})
"""Operators that turn logits into a probability for every class alone."""
CARRIERS = frozenset({"Identity", "Dropout", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Log"})
"""Operators that may follow them: they pass every value on; the logarithm of a Softmax is a LogSoftmax in two steps."""
FATAL_ONLY = 4
"""onnxruntime's log level where its errors become a sentence: it would print them as well."""


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
        softmax: The Softmax or LogSoftmax at the end of the file, which is an Identity in `model`; None where there is none.
    """

    path: Path
    sha256: str
    model: onnx.ModelProto
    input: str
    output: str
    sizes: tuple[int | None, int | None, int | None]
    softmax: NodeProto | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user has to know about how the file is used, a sentence each."""
        if self.softmax is None:
            return ()
        return (
            f"{self.path.name} ends in the {self.softmax.op_type} {node_name(self.softmax)}, which is left out: what enters it "
            "are the logits",
        )

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
    """Open an ONNX file. A Softmax at its end is taken out, because everything that is computed here is computed of logits.

    Raises:
        UsageError: The file is missing or is not an ONNX model, its weights are missing, onnxruntime can't load it, or it is
            something else than one classifier of images; the message names what.
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
    _check_loads(model, path)
    _sort_nodes(model)
    _open_batch(model, name)
    output = _only_output(model, path)
    softmax = _take_softmax_out(model, output, path)
    return OnnxFile(path=path, sha256=digest.hexdigest(), model=model, input=name, output=output, sizes=sizes, softmax=softmax)


def node_name(node: NodeProto) -> str:
    """Return how a message names a node: names of nodes are optional, those of their outputs are not."""
    return f"'{node.name or node.output[0]}'"


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


def _check_loads(model: onnx.ModelProto, path: Path) -> None:
    """Refuse a graph that onnxruntime does not load: it is too new, is not whole, or has operators of somebody else.

    Everything after this makes sessions of parts of the graph, each of which would fail in words about itself.
    """
    options = session_options(1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = FATAL_ONLY
    try:
        ort.InferenceSession(model.SerializeToString(), options, providers=[CPU])
    except Exception as reason:  # onnxruntime raises one type of error per status code
        raise UsageError(
            f"onnxruntime {ort.__version__} can't load {path} ({in_short(reason)})",
            todo="Export it again, with operators and versions that this onnxruntime knows.",
        ) from reason


def _sort_nodes(model: onnx.ModelProto) -> None:
    """Bring the nodes into an order in which they can run: onnxruntime takes any order, walks over the nodes do not."""
    waiting = list(model.graph.node)
    made = {name for node in waiting for name in node.output}
    there: set[str] = set()
    ordered: list[NodeProto] = []
    while waiting:
        later = []
        for node in waiting:
            if (set(node.input) & made) <= there:
                ordered.append(node)
                there |= set(node.output)
            else:
                later.append(node)
        assert len(later) < len(waiting), "onnxruntime has loaded the graph, so that it has no circle"
        waiting = later
    del model.graph.node[:]
    model.graph.node.extend(ordered)


def in_short(reason: Exception) -> str:
    """Return the first line of an error of onnxruntime without its codes and the places in its source."""
    line = (str(reason).splitlines() or [type(reason).__name__])[0]
    line = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", line)
    # "/onnxruntime_src/.../model.cc:256 onnxruntime::Model::Model(...) Unsupported IR version", "utils.cc:15 Validate ..."
    return re.sub(r"^\S+\.(cc|h):\d+ ([A-Z]\w+ |.*?\) )", "", line).rstrip(".")[:160]


def _take_softmax_out(model: onnx.ModelProto, output: str, path: Path) -> NodeProto | None:
    """Turn a Softmax or LogSoftmax at the end of a graph into an Identity, and return it as it was; None where there is none.

    Keras, tf2onnx and many hand-written exports end in one. With its probabilities in the place of logits, every confidence,
    cross entropy and divergence would be computed of probabilities of probabilities.

    Ensures:
        All names stay as they were. Whether the Softmax goes over the classes can only be seen when the graph has run:
        `plain_graph` makes sure of it.

    Raises:
        UsageError: The graph ends in a Sigmoid: its classes do not exclude each other.
    """
    producers = {name: node for node in model.graph.node for name in node.output}
    node, logarithms = producers.get(output), list[NodeProto]()
    while node is not None and node.domain in ("", "ai.onnx"):
        if node.op_type in TO_PROBABILITIES:
            softmax = NodeProto()
            softmax.CopyFrom(node)
            for gone in (node, *logarithms):
                gone.op_type = "Identity"
                del gone.attribute[:]
            return softmax
        if node.op_type in ONE_BY_ONE:
            raise UsageError(
                f"{path} ends in the {node.op_type} {node_name(node)}, which gives every class a probability of its own",
                allowed="classifiers that choose one class: logits [N, classes], or a Softmax over them",
            )
        if node.op_type not in CARRIERS:
            return None
        logarithms += [node] if node.op_type == "Log" else []
        node = producers.get(node.input[0])
    return None


def _only_output(model: onnx.ModelProto, path: Path) -> str:
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
