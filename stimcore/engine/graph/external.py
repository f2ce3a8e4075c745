"""Models whose constants lie in another file: read from bytes that were checked, where onnx itself would read files again."""

from collections.abc import Callable, Sequence

import onnx
from onnx import TensorProto, numpy_helper

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


def externalise(model: onnx.ModelProto, location: str, inline: Sequence[str]) -> bytes:
    """Move constants out of a model into the bytes of a file that several models can share.

    Args:
        model: Changed in place: its constants refer to the file.
        location: Name of the file, which lies in the folder of the model's file.
        inline: Names of the constants that stay in the model.

    Returns:
        The content of the file.
    """
    blob = bytearray()
    for tensor in model.graph.initializer:
        if tensor.name in inline:
            continue
        raw = numpy_helper.to_array(tensor).tobytes()
        # aligned, so that onnxruntime can map the file into memory
        blob += b"\0" * (-len(blob) % 64)
        for field in ("float_data", "int64_data", "raw_data"):
            tensor.ClearField(field)
        del tensor.external_data[:]
        for key, value in (("location", location), ("offset", len(blob)), ("length", len(raw))):
            tensor.external_data.add(key=key, value=str(value))
        tensor.data_location = TensorProto.EXTERNAL
        blob += raw
    return bytes(blob)
