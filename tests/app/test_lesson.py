"""The lesson's steps for every kind of network."""

import pytest

from stimcore.subnets.topology import Topology
from stimcore.web import arrangement
from stimcore.web.lesson import lesson
from tests.app.networks import DENSENET, EVERY_NETWORK, RESNET20, SINGLE


@pytest.mark.parametrize("topology", EVERY_NETWORK, ids=lambda t: t.network)
def test_five_steps_whose_buttons_this_network_allows(topology: Topology) -> None:
    steps = lesson(topology)
    assert len(steps) == 5
    for step in steps:
        if step.edit:
            topology.check(step.edit.arrangement.spec)
    assert steps[0].edit
    assert steps[0].edit.arrangement == arrangement.full(topology)


def test_buttons_by_network() -> None:
    def labels(topology: Topology) -> list[str]:
        return [step.edit.label() if step.edit else "" for step in lesson(topology)]

    full, back = "Show the full network", "Put everything back"
    assert labels(RESNET20) == [full, "Delete block 5", "One per stage", "Swap 2 and 3", back]
    assert labels(DENSENET) == [full, "Half of every stage", "One per stage", "Half of every stage", back]
    assert labels(SINGLE) == [full, "", "", "", back]
