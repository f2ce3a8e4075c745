"""Damage."""

from app.frame import frame

frame("Damage", "")
