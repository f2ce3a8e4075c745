"""The clickable picture of a network: stages of blocks with their skip paths.

A click deletes or restores a block, dragging or Alt with an arrow key moves it within its stage, and locked blocks give the
reason. A first block of a stage that can be deleted has a mark of its own, since the paper's methods never skip it. The picture
keeps no state: it draws the text of the arrangement that it receives and reports the text that the visitor asks for; the page
checks that text and sends the next one.
"""

from typing import Any

from stimcore.analysis.spreads import first_blocks
from stimcore.subnets.topology import Topology
from stimcore.web.words import ENGLISH, Words


def locked(topology: Topology, words: Words = ENGLISH) -> dict[int, str]:
    """Return the blocks that a click can't delete, with the reason in a student's words.

    Example:
        >>> locked(Topology.of("net", [2, 2], {3: "it changes the resolution"}))
        {3: 'it changes the resolution'}
    """
    if topology.ordered_only:
        return {stage[0]: words.say("diagram.first_stays") for stage in topology.stages}
    return {block: words.term(reason) for block, reason in topology.fixed.items()}


def payload(topology: Topology, text: str, *, edits: int, large: bool, words: Words = ENGLISH) -> dict[str, Any]:
    """Return the data of the script `diagram.js`, as plain JSON types.

    Args:
        topology: The network.
        text: The arrangement to draw: every block in its place, `x` before a deleted one, as in `1-x2-3.4-5`.
        edits: Number of the last edit that the page has seen, 0 before the first. The picture takes back an edit that was
            refused, and ignores an answer to an edit before its last one.
        large: Draw it for a projector.
        words: The language.

    Example:
        >>> data = payload(Topology.of("net", [2, 1]), "1-x2.3", edits=0, large=False)
        >>> data["text"], data["locked"], data["movable"]
        ('1-x2.3', {}, True)
    """
    fixed = set(topology.fixed)
    return {
        "text": text,
        "firsts": list(first_blocks(topology)),
        "locked": {str(block): reason for block, reason in locked(topology, words).items()},
        "tail": topology.ordered_only,
        "movable": not topology.ordered_only and any(len(set(stage) - fixed) > 1 for stage in topology.stages),
        "edits": edits,
        "large": large,
        "words": words.section("diagram"),
    }
