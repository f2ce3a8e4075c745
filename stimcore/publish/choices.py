"""What a page can be asked for, apart from what builds it: the command line reads this without importing onnxruntime."""

WALLS = ("stored", "presets", "all")
"""Of which states picture walls can be computed: of none, of the ready-made edits, of all stored ones."""
DEFAULT_IMAGES = 2000
"""Evaluation images on which a browser counts a state that is not stored."""
DEFAULT_TITLE, DEFAULT_LANGUAGE = "", ""
"""Those of the visitor's language, and the language of the visitor's browser."""
DEFAULT_WALLS = "presets"
