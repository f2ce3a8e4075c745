"""The report: stored results of experiments as tables and figures next to the paper's. Reads bundles, evaluates nothing."""
