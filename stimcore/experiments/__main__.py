"""`python -m stimcore.experiments`."""

from stimcore import cli
from stimcore.experiments.catalogue import main

if __name__ == "__main__":
    cli.run(main)
