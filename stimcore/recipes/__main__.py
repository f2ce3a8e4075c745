"""`python -m stimcore.recipes`."""

from stimcore import cli
from stimcore.recipes.recipe import main

if __name__ == "__main__":
    cli.run(main)
