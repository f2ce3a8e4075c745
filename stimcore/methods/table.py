"""The table of training methods. A new method is a file, a card and a line here."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from stimcore.errors import UsageError
from stimcore.methods.base import Method
from stimcore.methods.common import Common
from stimcore.methods.layer_supervision import LayerSupervision
from stimcore.methods.self_distillation import SelfDistillation
from stimcore.methods.stage_supervision import StageSupervision
from stimcore.methods.stimulative import Stimulative
from stimcore.methods.stochastic_depth import StochasticDepth

METHODS: dict[str, type[Method]] = {
    "common": Common,
    "layer_supervision": LayerSupervision,
    "stage_supervision": StageSupervision,
    "self_distillation": SelfDistillation,
    "stochastic_depth": StochasticDepth,
    "stimulative": Stimulative,
}
"""Name -> class, in the order of the paper's Table r3, which tables and legends follow."""


def make(name: str, options: Mapping[str, Any]) -> Method:
    """Return a method with its options.

    Args:
        name: A key of `METHODS`.
        options: Fields of its dataclass; those that are absent have their default.

    Raises:
        UsageError: There is no such method or no such option, or the value of an option has another type or is out of range.

    Example:
        >>> make("stochastic_depth", {"last_survival": 0.5})
        StochasticDepth(last_survival=0.5)
        >>> make("stimulative", {"weight": "five"})
        Traceback (most recent call last):
        stimcore.errors.UsageError: weight='five' for stimulative; allowed: a number.
    """
    if name not in METHODS:
        raise UsageError(f"there is no method '{name}'", allowed=", ".join(METHODS))
    fields = {field.name: field for field in dataclasses.fields(METHODS[name])}  # type: ignore[arg-type]  # every class of the table is a dataclass, which `type[Method]` does not state
    if unknown := sorted(set(options) - set(fields)):
        raise UsageError(f"{name} has no option {', '.join(unknown)}", allowed=", ".join(fields) or "no options")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    types = typing.get_type_hints(METHODS[name])
    for key, value in values.items():
        if not _fits(types[key], value):
            raise UsageError(
                f"{key}={value!r} for {name}", allowed=_TYPE_NAMES.get(types[key], "numbers between commas, one per stage")
            )
    return METHODS[name](**values)


def restore(name: str, options: Mapping[str, Any]) -> Method:
    """Return the method of a stored run.

    An option that was added after the run was made has the value that describes what the code did then. That need not be
    today's default: see `Method.old_defaults`.

    Args:
        name: A key of `METHODS`.
        options: The options that the run stored.

    Raises:
        UsageError: As `make`.

    Example:
        >>> restore("self_distillation", {"alpha": 0.2}).feature, make("self_distillation", {"alpha": 0.2}).feature
        ('image', 'batch')
    """
    old_defaults = METHODS[name].old_defaults if name in METHODS else {}
    return make(name, {**old_defaults, **options})


_TYPE_NAMES = {float: "a number", int: "a whole number", bool: "true or false", str: "a word", float | None: "a number"}


def _fits(annotation: Any, value: Any) -> bool:
    """Return whether a value has the type of a field's annotation; a whole number is also a number, a bool is neither."""
    if typing.get_origin(annotation) is tuple:
        return isinstance(value, tuple) and all(_fits(typing.get_args(annotation)[0], item) for item in value)
    if alternatives := typing.get_args(annotation):
        return any(_fits(alternative, value) for alternative in alternatives)
    return type(value) in ((int, float) if annotation is float else (annotation,))
