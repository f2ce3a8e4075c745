"""Accuracies of whole families of sub-networks, on one machine or on many."""
