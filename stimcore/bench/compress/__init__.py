"""The benchmark `bench compress`; see `suite`.

Nothing is imported here: `prune` and `net` also run where only torch and Torch-Pruning are installed.
"""
