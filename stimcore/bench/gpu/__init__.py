"""Everything that is promised for a GPU, in one run: correctness first, then figures."""

from stimcore.bench.gpu.suite import Settings, run, show

__all__ = ["Settings", "run", "show"]
