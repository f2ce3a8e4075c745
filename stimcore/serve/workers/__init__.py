"""Worker processes: their supervision in the front process, and the program that runs in them."""
