"""The data of the accuracy lanes, and their sentence for a screen reader."""

import json
from dataclasses import replace

from stimcore.web.lanes import Lane, payload, spoken

LANE = Lane(key="common", name="Common training", glyph="◆", color="#D55E00", full_pct=91.0, accuracy_pct=None)
COUNTED = replace(LANE, accuracy_pct=52.34, interval_pct=(51.0, 53.7), drop_pct=38.66)


def test_sentence() -> None:
    assert spoken([LANE, replace(LANE, name="Other", hidden=True)]) == "Common training: measuring; Other: answer hidden"
    sentence = "Common training 52.3 percent, between 51.0 and 53.7"
    assert spoken([replace(COUNTED, drop_pct=None)]) == sentence
    assert spoken([COUNTED]) == f"{sentence}, 38.7 points less than the full network"
    assert spoken([replace(COUNTED, drop_pct=-1.0)]) == f"{sentence}, 1.0 points more than the full network"


def test_payload_is_plain_json() -> None:
    data = json.loads(json.dumps(payload([LANE, COUNTED], done=True, large=False)))
    assert [row["accuracy_pct"] for row in data["rows"]] == [None, 52.34]
    assert data["done"]
    assert not data["large"]
    assert data["label"] == spoken([LANE, COUNTED])
