"""Statistics of sub-networks: results, intervals, loafing, comparisons, and the numbers that the paper prints."""
