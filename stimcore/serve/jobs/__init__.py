"""Evaluations as jobs: queue, progress and results that are known already."""
