"""The committed model cards: a reader of one gets the program and the sentences of today.

An export writes the card of its experiment only, so that a change of the text leaves the others behind.
`STIMCORE_GOLDEN=write` with `-m golden` writes them all.
"""

from pathlib import Path

import pytest

from stimcore.bundle.card import FILE, card, write_card
from stimcore.bundle.opening import open_experiment, open_folder
from tests.golden import REWRITE

EXPORTED = Path(__file__).parents[2] / "exported"


@pytest.mark.golden
@pytest.mark.parametrize("name", sorted(path.parent.name for path in EXPORTED.glob("*/experiment.json")))
def test_a_committed_card_says_what_an_export_would_write(name: str) -> None:
    if REWRITE:
        write_card(EXPORTED / name)
    experiment = open_experiment(EXPORTED / name)
    bundles = [open_folder(EXPORTED / name / method) for method in experiment.methods]
    assert (EXPORTED / name / FILE).read_text(encoding="utf-8") == card(experiment, bundles)
