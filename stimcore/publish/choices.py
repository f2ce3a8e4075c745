"""What a page can be asked for, apart from what builds it: the command line reads this without importing onnxruntime."""

WALLS = ("stored", "presets", "all")
"""Of which states picture walls can be computed: of none, of the ready-made edits, of all stored ones."""
DEFAULT_IMAGES = 1000
"""Evaluation images on which a browser counts a state that is not stored: with two of the committed networks' weights and all
calibration images, a visitor loads less than 3 MB."""
DEFAULT_TITLE, DEFAULT_LANGUAGE = "", ""
"""Those of the visitor's language, and the language of the visitor's browser."""
DEFAULT_WALLS = "presets"
