"""Trainings that the server starts on request: what may be trained, the queue, and the process that does the work."""
