"""The data of the clickable picture."""

import json

from stimcore.subnets.topology import Topology
from stimcore.web.diagram import payload

NO_SKIP_PATH = "it changes the resolution"
RESNET20 = Topology.of("resnet20", [3, 3, 3], {4: NO_SKIP_PATH, 7: NO_SKIP_PATH})
DENSENET = Topology.of("densenet264", [6, 12, 64, 48], ordered_only=True)
FIXED = Topology.of("fixed", [2, 2], dict.fromkeys((1, 3), NO_SKIP_PATH))


def test_payload_of_a_resnet() -> None:
    data = payload(RESNET20, "1-x2-3.4-5-6.7-8-9", edits=3, large=True)
    assert data == json.loads(json.dumps(data))
    assert data["text"] == "1-x2-3.4-5-6.7-8-9"
    assert data["edits"] == 3
    assert data["large"]
    assert data["locked"] == {"4": NO_SKIP_PATH, "7": NO_SKIP_PATH}
    assert data["movable"]
    assert not data["tail"]


def test_payload_of_a_densenet() -> None:
    data = payload(DENSENET, str(DENSENET.full), edits=0, large=False)
    assert data["tail"]
    assert not data["movable"]
    assert set(data["locked"]) == {"1", "7", "19", "83"}


def test_nothing_moves_where_every_stage_has_one_removable_block() -> None:
    assert not payload(FIXED, str(FIXED.full), edits=0, large=False)["movable"]
