"""Surgery on ONNX graphs: selecting, folding and measuring the parts of a network."""
