"""Running bundles in onnxruntime: graph surgery, sessions, prefix-tree evaluation. No torch."""
