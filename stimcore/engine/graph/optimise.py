"""Pass: a self-contained graph without what a torch exporter leaves behind, by onnxscript's optimiser where it is installed.

The exporter writes shapes as small calculations (Shape, Gather, Concat over Constant nodes). With all weights inside and a
known image size, most of them are constants, which the optimiser computes once and for all.
"""

import importlib

import onnx

NOT_INSTALLED = "none (onnxscript is not installed)"
"""Stands for the optimiser where there is none: the model server's own requirements leave it out, as it needs 115 MB."""


def optimised_graph(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """Return a model with constants folded and unused nodes removed, and what did that.

    Requires:
        The model needs no other file.

    Ensures:
        Inputs, outputs, operator set and file format stay. The model that was given is not changed.

    Args:
        model: A self-contained network.

    Returns:
        The model, and the optimiser with its version; the same model and `NOT_INSTALLED` without onnxscript.
    """
    try:
        # by name, since what runs networks must do so without it; importing it takes a second, which only this needs
        package = importlib.import_module("onnxscript")
        optimizer = importlib.import_module("onnxscript.optimizer")
    except ImportError:
        return model, NOT_INSTALLED
    optimised: onnx.ModelProto = optimizer.optimize(model)
    return optimised, f"onnxscript {package.__version__}"
