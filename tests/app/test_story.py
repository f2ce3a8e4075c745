"""The state that Break it opens on, for the committed experiments."""

import pytest

from stimcore.analysis.contrast import clearest, clearest_deletion, contrasts
from stimcore.analysis.result import Sweep
from stimcore.bundle import Bundle, open_bundle
from tests.app.browsing import ROOT

EXPORTED = ROOT / "exported"


def sweeps(bundle: Bundle) -> list[Sweep]:
    """Return what is stored with a bundle."""
    stored = [bundle.sweep(kind) for kind in ("ordered", "delete", "permute")]
    return [sweep if isinstance(sweep, Sweep) else Sweep.from_dict(sweep) for sweep in stored if sweep is not None]


@pytest.mark.parametrize(
    ("experiment", "methods", "spec", "block"),
    [
        ("resnet20-fashion", ("common", "stimulative"), "1-2.4-5.7", 3),
        ("mobilenetv3-fashion", ("common", "stimulative"), "1.3.6-8-9.10.12", 2),
        ("densenet-loafing", ("common",), "d1-2-2-8", None),
    ],
)
def test_clearest_states(experiment: str, methods: tuple[str, ...], spec: str, block: int | None) -> None:
    bundles = [open_bundle(EXPORTED / experiment / method, verify=False) for method in methods]
    topology = bundles[0].topology
    states = contrasts(topology, *map(sweeps, bundles))
    clear = clearest(states, topology.num_blocks)
    assert clear is not None
    assert clear.spec == topology.parse(spec)
    assert 2 * clear.num_gone <= topology.num_blocks
    assert clear.points >= 20
    single = clearest_deletion(states)
    if block is not None:
        assert single is not None
        assert set(topology.full.blocks) - set(single.spec.blocks) == {block}
    else:
        assert topology.kind(clear.spec) == "ordered"
