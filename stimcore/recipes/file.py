"""Recipes in files: a TOML file with the settings of a `Recipe`, complete or on top of a recipe of the catalogue."""

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from stimcore.errors import UsageError
from stimcore.recipes.catalogue import recipe
from stimcore.recipes.recipe import OWN, PAPER, Recipe

BASE = "base"
"""Key with the name of the recipe whose settings hold where the file has none."""


def read_recipe(path: Path) -> Recipe:
    """Return the recipe that a TOML file describes.

    The keys are the fields of `Recipe`. With `base = "NAME"` only those need to be there that differ from the recipe of that
    name; without it all that have no default. Where they are absent, `name` is the name of the file and `experiment` is the
    name. The label is `own recipe`, because a file vouches for nothing; a `train_per_class` of 0 means all images.

    Raises:
        UsageError: The file can't be read, a key is unknown or missing, or a value has another type or is out of range; the
            message names what is allowed.
    """
    values = _read(path)
    fields = {field.name: field for field in dataclasses.fields(Recipe)}
    if unknown := sorted(set(values) - {BASE, *fields}):
        raise UsageError(f"{path} has the unknown keys {', '.join(unknown)}", allowed=", ".join((BASE, *fields)))
    if values.get("label", OWN) == PAPER:
        raise UsageError(f"{path} has the label '{PAPER}', for which only the recipes of the catalogue stand", allowed=OWN)
    values = _with_defaults(values, path)
    required = [name for name, field in fields.items() if field.default is field.default_factory is dataclasses.MISSING]
    if missing := [name for name in required if name not in values]:
        raise UsageError(
            f"{path} lacks the keys {', '.join(missing)}",
            todo=f'Give them, or begin with the line {BASE} = "resnet20-fashion".',
        )
    try:
        # as JSON, in which arrays are tuples also where types are strict; the dates of TOML become texts, which no setting is
        return TypeAdapter(Recipe).validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as reason:
        problems = [f"{'.'.join(map(str, error['loc']))} = {error['input']!r}: {error['msg']}" for error in reason.errors()]
        raise UsageError(f"{path} has values that are not allowed: {'; '.join(problems)}") from reason


def base_of(path: Path) -> tuple[str | None, frozenset[str]]:
    """Return the recipe that a file is on top of, None for none, and its own keys; errors are those of `read_recipe`."""
    values = _read(path)
    return values.get(BASE), frozenset(set(values) - {BASE})


def _read(path: Path) -> dict[str, Any]:
    try:
        # editors of Windows put a mark at the start
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as reason:
        raise UsageError(f"the recipe {path} can't be read: {getattr(reason, 'strerror', None) or reason}") from reason
    except tomllib.TOMLDecodeError as reason:
        raise UsageError(f"{path} is not TOML: {reason}", todo="A line of a recipe looks like this: epochs = 60.") from reason


def _with_defaults(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the values of a file, on top of those of its base, and with the name of the file where it has no other."""
    base: dict[str, Any] = {}
    if (name := values.get(BASE)) is not None:
        if not isinstance(name, str):
            raise UsageError(f"{BASE} = {name!r} in {path}", allowed="the name of a recipe between quotes")
        base = {key: value for key, value in recipe(name).to_dict().items() if key not in ("name", "experiment", "label")}
    merged = {"name": path.stem, "label": OWN, **base, **{key: value for key, value in values.items() if key != BASE}}
    merged.setdefault("experiment", merged["name"])
    if merged.get("train_per_class") == 0 and type(merged["train_per_class"]) is int:
        merged["train_per_class"] = None
    return merged


def to_toml(settings: Recipe) -> str:
    """Return a recipe as the content of a file that `read_recipe` reads.

    Settings that are not set have no line. The label is left out, since a file vouches for nothing. Name and experiment of a
    recipe of the catalogue are left out too: the file is there to be changed, and its runs would be taken for the catalogue's.

    Example:
        >>> from stimcore.recipes.catalogue import recipe
        >>> print(to_toml(recipe("resnet20-fashion")).splitlines()[2])
        epochs = 60
    """
    left_out = {"label"} if settings.label == OWN else {"label", "name", "experiment"}
    values = {key: value for key, value in settings.to_dict().items() if key not in left_out and value is not None}
    tables = values.pop("options")
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    for method, options in tables.items():
        lines += ["", f"[options.{json.dumps(method)}]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in options.items() if value is not None]
    return "\n".join(lines) + "\n"
