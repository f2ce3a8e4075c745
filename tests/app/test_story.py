"""The state that Break it opens on, for the committed experiments."""

import pytest

from stimcore.analysis.contrast import TIE_POINTS, clearest, clearest_deletion, contrasts
from stimcore.analysis.result import Sweep
from stimcore.bundle import Bundle, open_bundle
from stimcore.subnets.topology import Topology
from tests.app.browsing import ROOT

EXPORTED = ROOT / "exported"


def sweeps(bundle: Bundle) -> list[Sweep]:
    """Return what is stored with a bundle."""
    stored = [bundle.sweep(kind) for kind in ("ordered", "delete", "permute")]
    return [sweep if isinstance(sweep, Sweep) else Sweep.from_dict(sweep) for sweep in stored if sweep is not None]


def missing_blocks(topology: Topology, text: str) -> set[int]:
    return set(topology.full.blocks) - set(topology.parse(text).blocks)


@pytest.mark.parametrize(
    ("experiment", "methods"),
    [
        ("resnet20-fashion", ("common", "stimulative")),
        ("mobilenetv3-fashion", ("common", "stimulative")),
        ("densenet-loafing", ("common",)),
    ],
)
def test_clearest_states(experiment: str, methods: tuple[str, ...]) -> None:
    """The page opens on a state that nothing stored beats clearly, and the lesson deletes the block that shows most."""
    bundles = [open_bundle(EXPORTED / experiment / method, verify=False) for method in methods]
    topology = bundles[0].topology
    states = contrasts(topology, *map(sweeps, bundles))
    clear = clearest(states, topology.num_blocks)
    assert clear is not None
    assert 2 * clear.num_gone <= topology.num_blocks
    assert clear.points >= 20
    drops = [{r.spec: r.drop_pct for sweep in sweeps(bundle) for r in sweep.results} for bundle in bundles]
    others = drops[1] if len(drops) > 1 else dict.fromkeys(drops[0], 0.0)
    points = {spec: drop - others[spec] for spec, drop in drops[0].items() if spec in others}
    assert clear.points == pytest.approx(points[clear.spec])
    firsts = [stage[0] for stage in topology.stages]
    fair = [
        spec
        for spec in points
        if 2 * (topology.num_blocks - len(spec.blocks)) <= topology.num_blocks
        and all(stage[:1] == (first,) for stage, first in zip(spec.stages, firsts, strict=True))
    ]
    assert clear.spec in fair
    assert clear.points > max(points[spec] for spec in fair) - TIE_POINTS
    single = clearest_deletion(states)
    if topology.ordered_only:
        assert topology.kind(clear.spec) == "ordered"
        return
    assert single is not None
    (block,) = missing_blocks(topology, str(single.spec))
    singles = [spec for spec in points if topology.num_blocks - len(spec.blocks) == 1 and spec in fair]
    assert block not in firsts
    assert single.points == pytest.approx(max(points[spec] for spec in singles if list(spec.blocks) == sorted(spec.blocks)))


@pytest.mark.parametrize("experiment", sorted(path.parent.name for path in EXPORTED.glob("*/experiment.json")))
def test_the_pictures_of_what_the_page_offers_first_are_stored(experiment: str) -> None:
    """A visitor sees the answers of the first state, and of the block that the page offers to delete, without a worker."""
    names = [name for name in ("common", "stimulative") if (EXPORTED / experiment / name).is_dir()]
    bundles = [open_bundle(EXPORTED / experiment / name, verify=False) for name in names]
    states = contrasts(bundles[0].topology, *map(sweeps, bundles))
    first = [
        state for state in (clearest(states, bundles[0].topology.num_blocks), clearest_deletion(states)) if state is not None
    ]
    assert first
    for bundle in bundles:
        assert bundle.wall is not None
        assert {state.spec for state in first} <= set(bundle.wall.states)
