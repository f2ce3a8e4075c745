"""`python -m stimcore.recipes`: list the recipes with their costs."""

import dataclasses
from collections.abc import Sequence

from stimcore import cli
from stimcore.recipes.catalogue import RECIPES, expected
from stimcore.recipes.recipe import Recipe


def parser() -> cli.Parser:
    """Return the parser of the command line; a test freezes its help text."""
    line = cli.Parser(prog="python -m stimcore.recipes", description="List the recipes for stimcore.train.")
    line.add_argument("what", choices=["list"], help="print the recipes with their costs and accuracies")
    line.add_argument("--json", metavar="FILE", help="write the recipes as JSON ('-' for standard output)")
    return line


def main(argv: Sequence[str]) -> int:
    """Print the recipes; return the exit code."""
    options = parser().parse_args(argv)
    recipes = [make() for make in RECIPES.values()]
    if options.json != "-":
        print_table(recipes)
    cli.write_report(
        options.json, [recipe.to_dict() | {"expected": dataclasses.asdict(expected(recipe.name))} for recipe in recipes]
    )
    return 0


def print_table(recipes: Sequence[Recipe]) -> None:
    """Print a line per recipe, and below the table what its times mean."""
    head = f"{'recipe':24} {'network':22} {'data':13} {'epochs':>6}  {'label':16}"
    print(f"{head}  {'on two cores':24}  {'on a GPU':15}  accuracy of common, stimulative (%)")
    for recipe in recipes:
        known = expected(recipe.name)
        start = f"{recipe.name:24} {recipe.network:22} {recipe.dataset:13} {recipe.epochs:>6}  {recipe.label:16}"
        print(f"{start}  {known.two_cores:24}  {known.gpu:15}  {known.accuracy}")
    print(
        "Times are those of common training; stimulative training takes 1.3 to 1.5 times as long.\n"
        "'about': estimated from one step in fp32 on one core (AMD EPYC, Intel Xeon); the whole run was not measured."
    )


if __name__ == "__main__":
    cli.run(main)
