"""What the command lines of the benchmarks offer, and what they aim at, apart from what runs them, which needs torch."""

from collections.abc import Mapping

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

PAGE_TARGETS_MS: Mapping[str, float] = {
    "first_visit_over_empty": 700,
    "shared_link_over_empty": 700,
    "click_to_picture": 50,
    "wall_after_stored_number": 100,
    "click_to_first_number": 1200,
    "wall_after_measured_number": 1500,
    "poll_of_visitors": 100,
    "story_of_lecture": 5000,
    "published_first_view_on_a_phone": 3000,
}
"""Name -> milliseconds that the 95th percentile may take on two idle cores."""
WATCHED_SHARE = 0.02
"""Of one core: what a run in progress may cost the model server while 30 visitors watch it."""

SCALE_ALLOWED = 1.15
"""Largest over smallest time of a node along a curve of `bench scale` that is aimed at."""
SCALE_KEEP_MB = 1024
"""What the worker of `bench scale` may keep of statistics, activations and sessions: `keep_bytes` of the model server."""
SCALE_MOST_MB = 2 * SCALE_KEEP_MB
"""Memory that an evaluation may add to its process, whatever the size of the family: what it may keep, and as much again for
what it works on and for what the allocator has not given back."""

COMPRESS_WAYS: Mapping[str, str] = {
    "alone": "trained alone",
    "pruned": "common training, channels pruned, fine-tuned",
    "extracted": "stimulative training, as extracted",
    "tuned": "stimulative training, extracted, fine-tuned",
}
"""Way to a small network in `bench compress` -> its name in tables."""
COMPRESS_PAIRS: tuple[tuple[str, str], ...] = (
    ("pruned", "alone"),
    ("extracted", "alone"),
    ("tuned", "alone"),
    ("extracted", "pruned"),
    ("tuned", "pruned"),
)
"""Ways whose accuracies are compared: the first minus the second."""
COMPRESS_TARGETS = (0.8, 0.6, 0.4)
"""Shares of the main network's time at which they are compared."""
COMPRESS_SLACK = 1.03
"""Times as long as the sub-network that a pruned one may take that is compared with it."""
