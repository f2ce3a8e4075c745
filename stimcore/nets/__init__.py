"""Networks as stages of blocks; a file per family, the catalogue in `catalogue.py`."""
