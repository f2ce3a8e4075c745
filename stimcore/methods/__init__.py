"""Training methods; a file and a card each, the table in `table.py`."""
