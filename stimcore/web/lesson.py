"""The lesson: five steps that explain loafing in a student's words, each with an edit of the network that makes its point."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stimcore.analysis.contrast import Contrast
from stimcore.subnets.topology import Topology
from stimcore.web import arrangement
from stimcore.web.arrangement import Edit
from stimcore.web.words import ENGLISH, Words

REPLIES = ("slow", "loafing", "short")
"""Names of the answers to the question of the last step; `NAME_reply` is what is said to one."""
RIGHT = "loafing"
"""The right one of `REPLIES`."""


@dataclass(frozen=True)
class Step:
    """One screen of the lesson.

    Attributes:
        name: Of its title and its text, in the section `lesson` of the texts.
        edit: What its button does to the network; None where this network has nothing to do in this step.
        variant: Name of the text where it is another one than the step's.
        values: What the text names.
    """

    name: str
    edit: Edit | None
    variant: str = ""
    values: Mapping[str, int] = field(default_factory=dict)

    def title(self, words: Words = ENGLISH) -> str:
        """Return what the step is about."""
        return words.say(f"lesson.{self.name}_title")

    def text(self, words: Words = ENGLISH) -> str:
        """Return the step's text, as Markdown."""
        return words.say(f"lesson.{self.variant or self.name}", **self.values)


def lesson(topology: Topology, contrasts: Sequence[Contrast] = ()) -> list[Step]:
    """Return the steps for a network; they use only edits that the network has.

    Args:
        topology: The network.
        contrasts: What stored states show: they choose the edits that make the point best.
    """
    presets, whole = arrangement.presets(topology, contrasts), arrangement.full(topology)
    return [
        Step("team", Edit("show_full", whole), values={"blocks": topology.num_blocks}),
        Step("one", presets.delete or presets.half or presets.smallest),
        Step("firsts", presets.smallest or presets.half or presets.delete),
        Step("places", presets.swap or presets.half or presets.delete, variant="" if presets.swap else "no_places"),
        Step("stop", Edit("put_back", whole)),
    ]
