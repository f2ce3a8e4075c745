"""Training."""

from app.frame import frame

frame("Training", "")
