"""`python -m stimcore.sweep`."""

from stimcore import cli
from stimcore.sweep.sweep import main

if __name__ == "__main__":
    cli.run(main)
