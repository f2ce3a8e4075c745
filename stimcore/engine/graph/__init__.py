"""Graph surgery: any set of sub-networks composed out of `main.onnx`.

`main_graph.py` reads the main network, `compose.py` copies the parts that a unit runs, and three passes decide what becomes of
their batch norms. Every pass states what it requires and what it ensures.

    measure.py   batch norms run on batch statistics, which are outputs: calibration
    fold.py      batch norms are folded into convolutions: evaluation, and files that need no other file
    slice.py     all constants stay as they are stored: listed files, which share one file of weights

`optimise.py` works on a whole model that a pass has made, for files that leave the bundle.
"""
