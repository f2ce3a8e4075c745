"""The committed experiments as lists of commands."""
