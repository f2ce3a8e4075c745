"""The run folder: what training leaves behind, read and written in one place."""
