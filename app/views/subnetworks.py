"""Sub-networks."""

from app.frame import frame

frame("Sub-networks", "")
