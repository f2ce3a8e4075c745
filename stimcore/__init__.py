"""Stimulative training of residual networks: train, take apart, export, serve and show sub-networks.

The package imports nothing heavy: `import stimcore` loads neither torch nor onnxruntime.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

try:
    __version__ = version("stimcore")
except PackageNotFoundError:  # run from a folder of sources that was not installed
    __version__ = "0+unknown"

__all__ = ["__version__", "load"]


def load(bundle: str | Path, spec: str | None = None, *, trust_code: bool = False) -> Any:
    """Return a network of a bundle as a torch module; see `stimcore.export.load.load`, which has the exact types.

    Args:
        bundle: `exported/EXPERIMENT/METHOD`.
        spec: A sub-network such as `d1-1-1`, with re-calibrated batch norms; the whole network as training left it when None.
        trust_code: Whether modules that the bundle names as its network and its method may be imported, which runs their code.

    Raises:
        StimcoreError: The bundle is broken, or the network has no such sub-network.

    Example:
        >>> sum(parameter.numel() for parameter in load("exported/resnet20-fashion/common", "d1-1-1").parameters())
        75002
    """
    # imported by name, because the serving half imports this package and knows no torch
    return importlib.import_module("stimcore.export.load").load(bundle, spec, trust_code=trust_code)
