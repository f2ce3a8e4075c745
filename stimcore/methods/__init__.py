"""Training methods: a file and a card for each, and the table of their names in `table.py`."""
