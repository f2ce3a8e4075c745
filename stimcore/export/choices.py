"""What an export can be asked for, apart from what carries it out: the command line reads this without importing torch."""

from typing import Literal

GraphExporter = Literal["torch.export", "torchscript"]
"""What turns modules into graphs: torch's current exporter, which captures whole networks and takes seconds, or its older one,
which traces part by part in tenths of a second and is deprecated. Both give the same counts."""
CHECK_IMAGES = 1_000
"""Evaluation images on which every file is compared with torch where nothing else is asked for."""
