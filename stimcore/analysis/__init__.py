"""Statistics of sub-networks: intervals, loafing, and the numbers that the paper prints."""
