"""Sentences that the dashboard and a published page share, in `sentences.json`: templates with names in braces, as Markdown."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

MAX_NAMED = 3
"""Methods that one sentence can name; of more it names the one that does best and the one that does worst."""


@cache
def sentences() -> Mapping[str, str]:
    """Return the name of every sentence and its template."""
    content = (files("stimcore.web") / "sentences.json").read_text(encoding="utf-8")
    return {str(name): str(template) for name, template in json.loads(content).items()}


def say(name: str, /, **values: object) -> str:
    """Return a sentence.

    Args:
        name: Its name in the table.
        values: What stands in the place of the names in braces.

    Raises:
        KeyError: There is no such sentence, or a value is missing.

    Example:
        >>> say("many_gone", gone=2, blocks=9)
        '2 of 9 blocks are gone'
    """
    return sentences()[name].format(**values)


def finding(known: Sequence[tuple[str, float]], *, whole: bool, whole_pct: float | None = None) -> str:
    """Return what the methods' networks get right in one sentence, as Markdown.

    Args:
        known: Name and accuracy in [0, 100] of every method whose accuracy is known.
        whole: Whether nothing was changed in the networks.
        whole_pct: Accuracy of the full network, in [0, 100]; given where only one method is shown.

    Example:
        >>> finding([("Common training", 52.3), ("Stimulative training", 89.8)], whole=False)
        'Common training: **52 of 100** pictures right. Stimulative: **90**.'
        >>> finding([("Common training", 52.3)], whole=False, whole_pct=92.7)
        'Common training: **52 of 100** pictures right. Whole: **93**.'
        >>> finding([], whole=True)
        'Measuring …'
    """
    if not known:
        return say("measuring")
    if len(known) > MAX_NAMED:
        (best, most), *_, (worst, least) = sorted(known, key=lambda pair: -pair[1])
        text = say("finding_best", best=best, most=f"{most:.0f}", worst=worst.lower(), least=f"{least:.0f}")
    else:
        (name, value), *others = known
        text = say("finding_first", name=name, value=f"{value:.0f}")
        text += "".join(say("finding_next", name=n.replace(" training", ""), value=f"{other:.0f}") for n, other in others)
    if whole_pct is not None and not whole:
        text += say("finding_whole", value=f"{whole_pct:.0f}")
    return say("finding_start", finding=text) if whole else text
