"""The lesson: five steps that explain loafing in a student's words, each with an edit of the network that makes its point."""

from collections.abc import Sequence
from dataclasses import dataclass

from stimcore.analysis.contrast import Contrast
from stimcore.subnets.topology import Topology
from stimcore.web import arrangement
from stimcore.web.arrangement import Edit

QUESTION = "In your own words: what is loafing?"
RIGHT = "Parts of a network that do worse inside it than they would if trained alone"
"""The right one of `REPLIES`."""
REPLIES = {
    "A block that computes more slowly than the others": "Not quite: speed has nothing to do with it.",
    RIGHT: "Right. And you saw the sign of it: take blocks away, and what is left can't do the work.",
    "A network that was trained for too few epochs": "Not quite: the whole network does well, its parts don't.",
}
"""Answer to the question -> what is said to it."""


@dataclass(frozen=True)
class Step:
    """One screen of the lesson.

    Attributes:
        title: What it is about.
        text: Markdown.
        edit: What its button does to the network; None where this network has nothing to do in this step.
    """

    title: str
    text: str
    edit: Edit | None


def lesson(topology: Topology, contrasts: Sequence[Contrast] = ()) -> list[Step]:
    """Return the steps for a network; they use only edits that the network has.

    Args:
        topology: The network.
        contrasts: What stored states show: they choose the edits that make the point best.
    """
    presets, whole = arrangement.presets(topology, contrasts), arrangement.full(topology)
    return [
        Step(
            "A team of blocks",
            f"The boxes are the **{topology.num_blocks} blocks** of one network. An image goes in on the left; every block "
            "improves a little what it gets and passes it on; the answer comes out on the right. The arch over a block is a "
            "**skip path**: the signal can also go around the block. The bars show two copies of it, trained in two ways. "
            "**Whole, both do well.**",
            Edit("Show the full network", whole),
        ),
        Step(
            "Take one away",
            "If every block does its own share, losing one should cost little, because the skip path carries the rest. "
            "**Guess first, then look:** which copy notices?",
            presets.delete or presets.half or presets.smallest,
        ),
        Step(
            "Only the first blocks",
            "Now every stage keeps only its first blocks. What is left is a complete, smaller network. **Trained alone, such a "
            "network does far better than the common copy does now:** its blocks have been leaning on the others. **That is "
            "loafing**, as when people in a group pull less hard than they would alone. The stimulative copy hardly notices.",
            presets.smallest or presets.half or presets.delete,
        ),
        Step(
            "Change places",
            "Blocks that can do their own share should also cope with a change of places. Blocks that fit only behind one "
            "particular neighbour can't."
            if presets.swap
            else "Take away as much as this network allows. What is left shows how much the first blocks can do by themselves.",
            presets.swap or presets.half or presets.delete,
        ),
        Step(
            "How to stop the loafing",
            "**Stimulative training** adds one thing: at every training step, a random smaller part of the network must also "
            "give the answer of the whole network. No block can hide any more, so every part works. The price is about 1.4 "
            "times the training time.",
            Edit("Put everything back", whole),
        ),
    ]
