"""The table of training methods. A new method is a file, a card and a line in `names.py`; one of your own is `MODULE:CLASS`."""

import dataclasses
import importlib
import inspect
import json
import math
import typing
from collections.abc import Mapping
from typing import Any

from stimcore.errors import UsageError
from stimcore.methods.base import Method
from stimcore.methods.names import METHOD_CLASSES, short_name
from stimcore.nets.own import OWN_NAME, import_own

__all__ = ["METHODS", "is_method", "is_own_method", "make", "method_class", "restore", "short_name", "stored_options"]

METHODS: dict[str, type[Method]] = {
    name: getattr(importlib.import_module(place.partition(":")[0]), place.partition(":")[2])
    for name, place in METHOD_CLASSES.items()
}
"""Name -> class, in the order of `METHOD_CLASSES`."""


def make(name: str, options: Mapping[str, Any]) -> Method:
    """Return a method with its options.

    Args:
        name: A key of `METHODS`, or `MODULE:CLASS`.
        options: Fields of its dataclass; those that are absent have their default. A whole number stands for a float where the
            field is one, and a single number for the tuple of a network with one stage.

    Raises:
        UsageError: There is no such method or no such option, or the value of an option has another type or is out of range.

    Example:
        >>> make("stochastic_depth", {"last_survival": 0.5})
        StochasticDepth(last_survival=0.5)
        >>> method = make("stimulative", {"weight": 5, "max_skipped": 1})
        >>> method.weight, method.max_skipped
        (5.0, (1,))
        >>> make("stimulative", {"weight": "five"})
        Traceback (most recent call last):
        stimcore.errors.UsageError: weight='five' for stimulative; allowed: a number.
    """
    kind = method_class(name)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # `method_class` returns dataclasses, which `type[Method]` does not state
    if unknown := sorted(set(options) - set(fields)):
        raise UsageError(f"{name} has no option {', '.join(unknown)}", allowed=", ".join(fields) or "no options")
    types = typing.get_type_hints(kind)
    # converted here, so that a run stores equal options however they were given: two ways to write them make no two methods
    values = {key: _converted(types[key], value) for key, value in options.items()}
    for key, value in values.items():
        if not _fits(types[key], value):
            raise UsageError(f"{key}={value!r} for {name}", allowed=_type_in_words(types[key]))
    try:
        method = kind(**values)
    except TypeError as reason:  # an own method may have options without a default
        raise UsageError(f"{name} can't be made: {reason}", todo="Give the option with --option NAME=VALUE.") from reason
    if name not in METHODS:
        _check_storable(name, method)
    return method


def method_class(name: str) -> type[Method]:
    """Return the class of a training method.

    Args:
        name: A key of `METHODS`, or `MODULE:CLASS` for a method that a user wrote, whose module is imported.

    Raises:
        UsageError: There is no such method, or it is not a dataclass that implements `Method`.
    """
    if name in METHODS:
        return METHODS[name]
    if not OWN_NAME.match(name):
        raise UsageError(f"there is no method '{name}'", allowed=", ".join(METHODS) + ", MODULE:CLASS for your own")
    kind = import_own("method", name)
    if not (isinstance(kind, type) and issubclass(kind, Method) and dataclasses.is_dataclass(kind)):
        raise UsageError(
            f"'{name}' is no training method", allowed="a dataclass that inherits from stimcore.methods.base.Method"
        )
    if inspect.isabstract(kind):
        raise UsageError(f"the method '{name}' has no function {', '.join(sorted(kind.__abstractmethods__))}")
    return kind


def is_method(name: str) -> bool:
    """Return whether a name is that of a training method, and not `imported`. No module of a user is imported for this."""
    return name in METHODS or OWN_NAME.match(name) is not None


def is_own_method(name: str) -> bool:
    """Return whether a name stands for a method in a module of the user, which `make` would import.

    Example:
        >>> is_own_method("my_methods:Mixed"), is_own_method("stimulative"), is_own_method("imported")
        (True, False, False)
    """
    return name not in METHODS and is_method(name)


def restore(name: str, options: Mapping[str, Any]) -> Method:
    """Return the method of a stored run.

    An option that was added after the run was made has the value that describes what the code did then. That need not be
    today's default: see `Method.old_defaults`.

    Args:
        name: A key of `METHODS`, or `MODULE:CLASS`.
        options: The options that the run stored.

    Raises:
        UsageError: As `make`.

    Example:
        >>> restore("self_distillation", {"alpha": 0.2}).feature, make("self_distillation", {"alpha": 0.2}).feature
        ('image', 'batch')
    """
    return make(name, {**method_class(name).old_defaults, **options})


def stored_options(method: Method) -> dict[str, Any]:
    """Return the options of a method as a run stores them; `restore` takes them.

    Example:
        >>> "divide_by_classes" in stored_options(make("stimulative", {}))
        False
        >>> stored_options(make("stimulative", {"divide_by_classes": True}))["divide_by_classes"]
        True
    """
    fields = {field.name: field for field in dataclasses.fields(method)}  # type: ignore[arg-type]  # every method is a dataclass
    values: dict[str, Any] = dataclasses.asdict(method)  # type: ignore[call-overload]  # as above
    return {key: value for key, value in values.items() if key not in method.added_later or value != fields[key].default}


_TYPE_NAMES = {float: "a number", int: "a whole number", bool: "true or false", str: "a word", float | None: "a number"}


def _type_in_words(annotation: Any) -> str:
    """Return which values an annotation allows."""
    if annotation in _TYPE_NAMES:
        return _TYPE_NAMES[annotation]
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(map(str, typing.get_args(annotation)))
    if any(typing.get_origin(part) is tuple for part in (annotation, *typing.get_args(annotation))):
        return "numbers between commas, one per stage"
    return getattr(annotation, "__name__", str(annotation))


def _check_storable(name: str, method: Method) -> None:
    """Refuse an own method with an option that no run can store: it would be found out after the first epoch.

    Raises:
        UsageError: There is one.
    """
    for key, value in dataclasses.asdict(method).items():  # type: ignore[call-overload]  # every method is a dataclass
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as reason:
            raise UsageError(
                f"{name} has {key}={value!r}, which can't be written into run.json",
                allowed="numbers, texts, true, false, None, and tuples of these",
            ) from reason


def _converted(annotation: Any, value: Any) -> Any:
    """Return a value in the form of a field's annotation where only its form differs; else the value, which may not fit."""
    if isinstance(value, list):
        value = tuple(value)
    if typing.get_origin(annotation) is tuple:
        item = typing.get_args(annotation)[0]
        single = type(value) in (int, float)  # what is left of numbers between commas where there is one stage
        if single or isinstance(value, tuple):
            return tuple(_converted(item, number) for number in ((value,) if single else value))
    elif typing.get_origin(annotation) is typing.Literal:
        return next((each for each in typing.get_args(annotation) if str(each) == str(value)), value)
    elif alternatives := typing.get_args(annotation):
        if type(value) not in alternatives:
            converted = (_converted(alternative, value) for alternative in alternatives)
            return next((other for other in converted if _fits(annotation, other)), value)
    elif annotation is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf  # what the text of such a number is as a float
    return value


def _fits(annotation: Any, value: Any) -> bool:
    """Return whether a value has the type of a field's annotation; a whole number is also a number, a bool is neither."""
    if typing.get_origin(annotation) is tuple:
        return isinstance(value, tuple) and all(_fits(typing.get_args(annotation)[0], item) for item in value)
    if typing.get_origin(annotation) is typing.Literal:
        return value in typing.get_args(annotation)
    if alternatives := typing.get_args(annotation):
        return any(_fits(alternative, value) for alternative in alternatives)
    return type(value) in ((int, float) if annotation is float else (annotation,))
