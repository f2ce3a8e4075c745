"""The report: stored results of experiments as tables and figures beside the paper's. Reads bundles, evaluates nothing."""
