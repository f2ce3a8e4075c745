"""The clickable picture of a network: stages of blocks with their skip paths; an inline component without a build step.

Click deletes or restores, drag or Alt+arrow moves within a stage, locked blocks say why. The picture is controlled: it shows
the text it is given and reports the text it would like; whoever uses it decides (`app.state.read`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.arrangement import Arrangement, locked
from app.inline import inline
from stimcore.subnets.topology import Topology

_HTML = """<div class="net" role="group"></div>
<p class="hint" aria-live="polite"></p>
"""
_component = inline(Path(__file__).parent, _HTML)


def payload(topology: Topology, arrangement: Arrangement, *, revision: int, large: bool) -> dict[str, Any]:
    """What the picture is told.

    Args:
        topology: The network.
        arrangement: What to show.
        revision: Number of edits that were answered: lets the picture take back a refused one.
        large: For a projector.
    """
    return {
        "text": str(arrangement),
        "locked": {str(block): why for block, why in locked(topology).items()},
        "tail": topology.ordered_only,
        "movable": any(len(set(stage) - set(topology.fixed)) > 1 for stage in topology.stages) and not topology.ordered_only,
        "revision": revision,
        "large": large,
    }


def diagram(
    topology: Topology, arrangement: Arrangement, *, revision: int, large: bool, key: str, on_edit: Callable[[], None]
) -> None:
    """Draws the network; inside `on_edit` the wish is `st.session_state[key].text`."""
    _component(key=key, data=payload(topology, arrangement, revision=revision, large=large), on_text_change=on_edit)
