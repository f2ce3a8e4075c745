"""Finds the residual blocks of an ONNX file and makes a bundle of it, without torch.

`reading.py` opens the file, `plain.py` brings its graph into a form with few rules, `blocks.py` finds the blocks, `divide.py`
writes the graph in parts as the engine reads it, and `bundle.py` writes the bundle.
"""
