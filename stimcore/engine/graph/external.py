"""Reading a model whose constants lie in another file, from bytes that were checked: onnx itself would read files again."""

from collections.abc import Callable

import onnx
from onnx import TensorProto

from stimcore.errors import BundleError


def load_inlined(read: Callable[[str], bytes], name: str) -> onnx.ModelProto:
    """Return a model with all of its constants inside.

    Nothing is opened by a name that the model's file chooses: `read` refuses every file that the bundle does not list.

    Args:
        read: Returns the checked content of a file of the bundle.
        name: File of the model.

    Raises:
        BundleError: `read` refuses a file, or the model's file or its references to constants are broken.
    """
    model = load_model(read, name)
    stores: dict[str, bytes] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        places = {entry.key: entry.value for entry in tensor.external_data}
        location = places.get("location", "")
        if location not in stores:
            stores[location] = read(location)
        try:
            start, length = int(places.get("offset", "0")), int(places["length"])
        except (KeyError, ValueError) as reason:
            raise BundleError(f"{name} refers to constant {tensor.name} without a place in {location}") from reason
        if start < 0 or length < 0 or start + length > len(stores[location]):
            raise BundleError(f"{name} refers to constant {tensor.name} outside of {location}")
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
        tensor.raw_data = stores[location][start : start + length]
    return model


def load_model(read: Callable[[str], bytes], name: str) -> onnx.ModelProto:
    """Return a model without the constants that lie in another file; arguments and errors are those of `load_inlined`."""
    content = read(name)
    try:
        return onnx.load_from_string(content)
    except Exception as reason:  # protobuf raises several types for broken messages
        raise BundleError(f"{name} is not an ONNX model ({type(reason).__name__})") from reason
