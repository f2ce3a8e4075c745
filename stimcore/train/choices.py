"""What command lines offer and tell of training, apart from training itself, which needs torch."""

SMOKE_STEPS = 200
"""Steps after which a recipe that works has learned something."""
