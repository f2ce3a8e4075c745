"""Takes a trained network apart: how much it loses without each of its blocks.

`source.py` makes a bundle of whatever was given, `measure.py` evaluates every edit and goes on after a stop, `influence.py`
measures how much each block changes what enters it, and `table.py` prints the result.
"""
