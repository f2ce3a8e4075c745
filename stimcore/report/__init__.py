"""The report: an experiment's stored evidence as tables and figures beside the paper's. Reads bundles, evaluates nothing."""
