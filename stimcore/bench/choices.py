"""What the command lines of the benchmarks offer, apart from what runs it, which needs torch."""

GPU_PARTS: tuple[tuple[str, str, str, str], ...] = (
    ("golden curves", "Losses of 20 steps of every method equal the processor's", "training", "golden_curves"),
    ("resume", "A run that was interrupted goes on as if it had not been", "training", "resume"),
    ("engine counts", "Sub-networks classify every image as on the processor", "engine", "engine_counts"),
    ("exported files", "Exported files give the processor's logits", "engine", "exported_files"),
    ("steps", "A stimulative step over a common one", "training", "steps"),
    ("throughput", "Training beside a plain loop of torch", "training", "throughput"),
    ("sweep", "All ordered sub-networks: the tree beside one by one", "engine", "sweeps"),
    ("edit", "From an edit to its first number, and to all images", "engine", "edits"),
    ("inference", "Inference through HTTP beside a direct call", "engine", "inference"),
)
"""Name, title, module and function of every part, in the order in which they run: correctness before figures."""
