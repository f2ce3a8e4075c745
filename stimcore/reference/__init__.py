"""The plain torch reference that every fast path is checked against."""
