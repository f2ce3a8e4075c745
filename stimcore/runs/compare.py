"""Which settings of two runs differ: a run is only resumed with the settings that it was started with."""

import dataclasses
from typing import Any

from stimcore.methods.table import is_method, restore
from stimcore.recipes.recipe import Recipe
from stimcore.runs.run import Run


def differences(before: Run, now: Run) -> list[str]:
    """Return a phrase for every setting in which two runs differ, with the old and the new value.

    What doesn't influence the weights (the name, the machine, the folder of the data set) is not compared.
    """
    if before.method != now.method:  # the options of two methods can't be compared
        return [f"method was {before.method}, is now {now.method}"]
    old, new = _settings(before), _settings(now)
    for key in ("train_sha256", "evaluation_sha256"):
        if before.images.get(key) and now.images.get(key):  # older runs have no hashes
            old[f"images ({key})"], new[f"images ({key})"] = before.images[key], now.images[key]
    if now.init:  # a run that goes on needs no weights to start from; those that are given must be those that it had
        old["init"], new["init"] = before.init.get("source"), now.init.get("source")
    return [
        f"{key} was {_shown(old.get(key))}, is now {_shown(new.get(key))}" for key in old | new if old.get(key) != new.get(key)
    ]


def _settings(run: Run) -> dict[str, Any]:
    """Return the settings that must be equal, under the names that the command line has for them."""
    options = dict(run.options)
    if is_method(run.method):  # an option that is newer than the run has the value that describes what the code did then
        options = dataclasses.asdict(restore(run.method, options))  # type: ignore[call-overload]  # every method is a dataclass
    recipe = Recipe.from_dict(run.recipe).to_dict()
    # the options of other methods don't matter, and the label follows from the other settings
    recipe = {key: value for key, value in recipe.items() if key not in ("options", "label")}
    rest = {"spec": run.spec, "seed": run.seed, "holdout": run.holdout}
    settings = {"recipe" if key == "name" else key: value for key, value in recipe.items()} | options | rest
    return {key: _with_lists(value) for key, value in settings.items()}


def _shown(value: Any) -> str:
    """Return a setting as the command line writes it."""
    if isinstance(value, list):
        return " ".join(map(str, value)) or "nothing"
    return "not set" if value is None else str(value)


def _with_lists(value: Any) -> Any:
    """Return a value with lists in the place of tuples, as it comes back from JSON."""
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    return [_with_lists(item) for item in value] if isinstance(value, list | tuple) else value
