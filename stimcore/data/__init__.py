"""Data sets as images in memory; a file per source, the table in `sources.py`."""
