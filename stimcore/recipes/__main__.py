"""`python -m stimcore.recipes`: list the recipes with their costs, or print one as a file."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from stimcore import cli
from stimcore.errors import UsageError
from stimcore.recipes.catalogue import RECIPES, expected, recipe
from stimcore.recipes.file import read_recipe, to_toml
from stimcore.recipes.recipe import Recipe


def parser() -> cli.Parser:
    """Return the parser of the command line; a test freezes its help text."""
    line = cli.Parser(prog="python -m stimcore.recipes", description="List the recipes for stimcore.train, or print one.")
    line.add_argument(
        "what", choices=["list", "show"], help="print all recipes with their costs and accuracies, or one as a TOML file"
    )
    line.add_argument("name", nargs="?", metavar="NAME", help="for 'show': a recipe, or a file of your own with one")
    cli.add_json(line, "write the recipes as JSON")
    return line


def main(argv: Sequence[str]) -> int:
    """Print the recipes; return the exit code."""
    options = parser().parse_args(argv)
    if (options.what == "show") != (options.name is not None):
        raise UsageError(
            f"recipes {options.what} {options.name or 'without a name'}", allowed="recipes list, or recipes show NAME"
        )
    if options.name is not None:
        shown = read_recipe(Path(options.name)) if options.name.endswith(".toml") else recipe(options.name)
        if options.json != "-":
            print(to_toml(shown), end="")
        cli.write_report(options.json, shown.to_dict())
        return 0
    recipes = [make() for make in RECIPES.values()]
    if options.json != "-":
        print_table(recipes)
    cli.write_report(options.json, [each.to_dict() | {"expected": dataclasses.asdict(expected(each.name))} for each in recipes])
    return 0


def print_table(recipes: Sequence[Recipe]) -> None:
    """Print a line per recipe, and below the table what its times mean."""
    head = f"{'recipe':24} {'network':22} {'data':13} {'epochs':>6}  {'label':16}"
    print(f"{head}  {'on two cores':24}  {'on a GPU':15}  accuracy of common, stimulative (%)")
    for each in recipes:
        known = expected(each.name)
        start = f"{each.name:24} {each.network:22} {each.dataset:13} {each.epochs:>6}  {each.label:16}"
        print(f"{start}  {known.two_cores:24}  {known.gpu:15}  {known.accuracy}")
    print(
        "Times are those of common training; stimulative training takes 1.3 to 1.5 times as long.\n"
        "'about': estimated from one step in fp32 on one core (AMD EPYC, Intel Xeon); the whole run was not measured."
    )


if __name__ == "__main__":
    cli.run(main)
