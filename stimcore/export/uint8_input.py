"""Preprocessing inside of a self-contained file: it takes pixels as picture libraries give them, and normalises in the graph.

Only the arithmetic can be part of the graph. Decoding, EXIF orientation, the conversion to the colour mode, resize and crop
stay with the caller; the file says so in its description, and its metadata hold the steps.
"""

import json
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from stimcore.data.preprocessing import Preprocessing

PIXELS, IMAGES = "pixels", "images"
"""Names of the new input and of the one that it replaces."""
PREFIX = "preprocessing/"
"""Nodes and tensors that are added begin with it."""


def with_preprocessing(model: onnx.ModelProto, preprocessing: Preprocessing) -> onnx.ModelProto:
    """Return a copy of a model that takes uint8 pixels `[N, H, W, C]` instead of normalised images `[N, C, H, W]`.

    Requires: the model has the one input `images`, float32. Ensures: the input is `pixels`; the arithmetic is that of
    `stimcore.data.normalise.Normalisation`, in the same order, so that the logits are the same to the last bit that the
    runtime's kernels allow.

    Args:
        model: A self-contained model, in float32 or in half precision with float32 input; it is not changed.
        preprocessing: Crop, channels, mean and standard deviation. Grey networks take one channel, `[N, H, W, 1]`.
    """
    channels, height, width = preprocessing.input_shape
    (given,) = model.graph.input
    assert given.name == IMAGES
    batch = given.type.tensor_type.shape.dim[0]
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    constants = {
        "scale": np.array(255, np.float32),
        "mean": np.array(preprocessing.normalisation.mean, np.float32).reshape(1, channels, 1, 1),
        "std": np.array(preprocessing.normalisation.std, np.float32).reshape(1, channels, 1, 1),
    }
    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Transpose", [PIXELS], {"perm": [0, 3, 1, 2]}),
        ("Cast", ["transpose"], {"to": TensorProto.FLOAT}),
        ("Div", ["cast", "scale"], {}),
        ("Sub", ["div", "mean"], {}),
        ("Div", ["sub", "std"], {}),
    ]
    nodes = []
    for index, (operation, inputs, attributes) in enumerate(steps):
        last = index == len(steps) - 1
        names = [name if name == PIXELS else PREFIX + name for name in inputs]
        output = IMAGES if last else PREFIX + operation.lower()
        nodes.append(helper.make_node(operation, names, [output], f"{PREFIX}{operation}{index + 1}", **attributes))
    old = list(changed.graph.node)
    del changed.graph.node[:]
    changed.graph.node.extend([*nodes, *old])
    changed.graph.initializer.extend(numpy_helper.from_array(value, PREFIX + name) for name, value in constants.items())
    shape = [batch.dim_param or batch.dim_value or "N", height, width, channels]
    changed.graph.input[0].CopyFrom(helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, shape))
    return changed


def describe_input(model: onnx.ModelProto, preprocessing: Preprocessing) -> None:
    """Write into a model's description what its input is, and which steps are left to the caller.

    Args:
        model: Changed in place, after `stimcore.engine.metadata.add_metadata`: doc string and the property `input`.
        preprocessing: The steps.
    """
    channels, height, width = preprocessing.input_shape
    outside = "orientation by EXIF, " if preprocessing.exif_orientation else ""
    outside += f"16 bits to 8 ({preprocessing.bit_depth}), conversion to mode {preprocessing.mode}, resize and crop"
    sentence = (
        f"pixels [N, {height}, {width}, {channels}], uint8, 0 to 255; division by 255, mean and standard deviation are part "
        f"of the graph. Outside of it stay, as the property 'preprocessing' describes them: {outside}"
    )
    before, _, after = model.doc_string.partition("Input: ")
    _, _, output = after.partition(" Output: ")
    model.doc_string = f"{before}Input: {sentence}. Output: {output}"
    facts = {"name": PIXELS, "type": "uint8", "shape": ["N", height, width, channels], "outside": outside.split(", ")}
    model.metadata_props.add(key="input", value=json.dumps(facts, separators=(",", ":")))


def as_pixels(images: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return stored images `[B, C, h, w]` as such a file takes them, uint8 `[B, H, W, C]`."""
    return np.ascontiguousarray(preprocessing.fit(images).transpose(0, 2, 3, 1))
