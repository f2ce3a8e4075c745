"""Accuracies of whole families of sub-networks, on one machine or on many.

A family is divided into shares (`sweep.py`), every share is evaluated by an engine in one process (`share.py`, `parallel.py`),
and finished results go to a journal (`journal.py`), from which a sweep that was killed continues.
"""
