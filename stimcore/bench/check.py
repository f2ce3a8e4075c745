"""Check the numbers that a benchmark was given."""

from stimcore.errors import UsageError


def at_least(settings: object, **smallest: int) -> None:
    """Refuse settings that are too small.

    Args:
        settings: An object with the attributes that `smallest` names.
        **smallest: Name of an attribute -> its smallest value.

    Raises:
        UsageError: A value is smaller; the message names its option.

    Example:
        >>> from types import SimpleNamespace
        >>> at_least(SimpleNamespace(unit_steps=0), unit_steps=1)
        Traceback (most recent call last):
            ...
        stimcore.errors.UsageError: --unit-steps 0; allowed: 1 and more.
    """
    for name, least in smallest.items():
        if (value := getattr(settings, name)) < least:
            raise UsageError(f"--{name.replace('_', '-')} {value}", allowed=f"{least} and more")
