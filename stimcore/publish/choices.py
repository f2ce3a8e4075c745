"""What a page can be asked for, apart from what builds it: the command line reads this without importing onnxruntime."""

LANGUAGES = ("en",)
"""Languages of the texts."""
WALLS = ("stored", "presets", "all")
"""Of which states picture walls can be computed: of none, of the ready-made edits, of all stored ones."""
DEFAULT_IMAGES = 2000
"""Evaluation images on which a browser counts a state that is not stored."""
DEFAULT_TITLE, DEFAULT_WALLS = "Break a network", "presets"
