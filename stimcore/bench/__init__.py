"""Benchmarks: what this program claims to save, measured; a file per claim, dispatched by `__main__.py`."""
