"""Benchmarks of the savings that this project claims: one file for each claim; `__main__.py` is the command."""
