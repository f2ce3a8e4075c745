"""Use it."""

from app.frame import frame

frame("Use it", "")
