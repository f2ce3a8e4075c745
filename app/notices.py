"""Sentences on what a visitor asked for and did not get. They stay until the visitor does something else.

A page draws itself anew at its own time, as soon as a measurement ends: a sentence that one run only shows may be gone before
anybody has read it.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field

from app import session


@dataclass
class Notice:
    """What is told at one place of a page.

    Attributes:
        sentences: The sentences.
        first: The page, and what it was about, when the sentences were first shown; None before that.
    """

    sentences: tuple[str, ...]
    first: tuple[str, Hashable] | None = None


@dataclass
class Notices:
    """What a visitor is told.

    Attributes:
        by_place: Place -> what is told there.
    """

    by_place: dict[str, Notice] = field(default_factory=dict)


def tell(place: str, *sentences: str) -> None:
    """Have a place show sentences, in place of those that it shows.

    Args:
        place: Name of the place.
        sentences: Plain text or Markdown, as the place shows it; none to show nothing any more.
    """
    by_place = session.memory(Notices).by_place
    by_place.pop(place, None)
    if sentences:
        by_place[place] = Notice(sentences)


def waiting(place: str) -> bool:
    """Return whether a place has sentences that no run of the page has shown yet."""
    notice = session.memory(Notices).by_place.get(place)
    return notice is not None and notice.first is None


def told(place: str, about: Hashable = None) -> tuple[str, ...]:
    """Return what a place shows in this run of the page; called by every run, after `app.session.returned_spec`.

    Args:
        place: Name of the place.
        about: What the visitor decides. With another value than at first, the sentences have had their time, as they have on
            another page.
    """
    page, by_place = session.memory(session.Visit).page, session.memory(Notices).by_place
    for name, notice in list(by_place.items()):
        left = notice.first is not None and notice.first[0] != page
        if left or (name == place and notice.first not in (None, (page, about))):
            del by_place[name]
    if place not in by_place:
        return ()
    by_place[place].first = (page, about)
    return by_place[place].sentences
