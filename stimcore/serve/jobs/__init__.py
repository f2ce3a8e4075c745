"""Evaluations as jobs: the queue, the state of a job, and the cache of results."""
