"""Networks as stages of blocks: a file per family, and the table of their names in `catalogue.py`."""
