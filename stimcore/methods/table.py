"""The one table of training methods: name -> class. A new method is a file, a card and a line here."""

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
"""In the order in which tables and legends list them: that of the paper's Table r3."""


def make(name: str, options: Mapping[str, Any]) -> Method:
    """A configured method.

    Args:
        name: A key of `METHODS`.
        options: Fields of its dataclass; an unknown one is refused.

    Raises:
        UsageError: There is no such method, no such option, or an option has a value of another type or out of range.
    """
    if name not in METHODS:
        raise UsageError(f"there is no method '{name}'", allowed=", ".join(METHODS))
    fields = {field.name: field for field in dataclasses.fields(METHODS[name])}  # type: ignore[arg-type]  # a Protocol hides it
    if unknown := sorted(set(options) - set(fields)):
        raise UsageError(f"{name} has no option {', '.join(unknown)}", allowed=", ".join(fields) or "no options")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    kinds = typing.get_type_hints(METHODS[name])
    for key, value in values.items():
        if not _fits(kinds[key], value):
            raise UsageError(
                f"{key}={value!r} for {name}", allowed=_WORDS.get(kinds[key], "numbers between commas, one per stage")
            )
    return METHODS[name](**values)


def restored(name: str, options: Mapping[str, Any]) -> Method:
    """The method of a run that was stored with these options.

    An option that is newer than the run has the value that describes what the code did then, which need not be today's
    default (`Method.earlier`).

    Raises:
        UsageError: As `make`.
    """
    return make(name, (dict(METHODS[name].earlier) if name in METHODS else {}) | dict(options))


_WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a word", float | None: "a number"}


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value has the type that a field's annotation names; a whole number is a number, too."""
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(typing.get_args(kind)[0], item) for item in value)
    if alternatives := typing.get_args(kind):
        return any(_fits(alternative, value) for alternative in alternatives)
    return type(value) in ((int, float) if kind is float else (kind,))
