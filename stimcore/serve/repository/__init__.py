"""The bundles and run folders that are served, by name."""
