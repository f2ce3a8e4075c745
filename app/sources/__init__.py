"""Everything that the pages show, asked from the model server and cached; the dashboard itself computes nothing.

A module asks about one noun. What belongs to a bundle is cached under the bundle's fingerprint and never asked for again; what
can change (the catalogue, the server's status, runs in progress) for a few seconds, for all visitors together.
"""
