"""Stimulative training of residual networks: train, take apart, export, serve and show sub-networks.

The package imports nothing heavy: `import stimcore` loads neither torch nor onnxruntime.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("stimcore")
except PackageNotFoundError:  # run from a folder of sources that was not installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
