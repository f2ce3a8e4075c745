"""Scans: the edits, what is measured of them, that a scan goes on after a stop, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from stimcore import cli
from stimcore.analysis.result import Result
from stimcore.analysis.scan import EditKind, edits, rank_correlation, recalibration_change, spearman
from stimcore.bundle import Bundle
from stimcore.engine.engine import Engine
from stimcore.errors import StimcoreError, UsageError
from stimcore.scan import __main__ as command
from stimcore.scan.influence import block_influence
from stimcore.scan.measure import scan_bundle
from stimcore.subnets.families import count_operations, deletions, permutations
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

KINDS: list[EditKind] = ["deletion", "pair"]
"""Edits that the tests measure; swaps take as long again."""


def test_edits_are_members_of_the_families() -> None:
    topology = Topology.of("any", (4, 3), {5: "it changes the shape"})
    every_edit = edits(topology)
    assert [edit.spec for edit in every_edit if edit.kind == "deletion"] == list(deletions(topology, 1))
    assert {edit.spec for edit in every_edit if edit.kind == "pair"} <= set(deletions(topology, 2))
    assert [edit.blocks for edit in every_edit if edit.kind == "pair"] == [(1, 2), (2, 3), (3, 4), (6, 7)]
    swaps = {edit.spec for edit in every_edit if edit.kind == "swap"}
    assert swaps == set(permutations(topology, 1))
    assert all(count_operations(spec) == 1 for spec in swaps)


@pytest.fixture(scope="module")
def scanned(small: list[Bundle], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a scan by the command."""
    out = tmp_path_factory.mktemp("scan")
    assert command.main([str(small[0].path), "--out", str(out), "--quiet", "--edits", *KINDS]) == 0
    return out


def test_counts_are_those_of_the_engine(small: list[Bundle], scanned: Path) -> None:
    value, bundle = json.loads((scanned / "scan.json").read_text()), small[0]
    assert len(value["rows"]) == len(edits(bundle.topology, KINDS))
    specs = [Spec.from_text(row["spec"]) for row in value["rows"]]
    for key, recalibrate in (("recalibrated", True), ("as_trained", False)):
        engine = Engine(bundle, device="cpu")
        (progress,) = [p for p in engine.evaluate(specs, recalibrate=recalibrate, collect_hits=True) if p.done]
        for row, spec in zip(value["rows"], specs, strict=True):
            assert Result.from_dict(row[key]).correct == progress.results[spec].correct
            assert row[key]["drop_interval_pct"] == list(progress.results[spec].drop_interval_pct)
    for row in value["rows"]:
        change = row["recalibrated"]["accuracy_pct"] - row["as_trained"]["accuracy_pct"]
        assert row["recalibration_change_points"]["value"] == pytest.approx(change, abs=1e-4)


def test_influence_is_one_minus_the_cosine(small: list[Bundle], scanned: Path) -> None:
    bundle = small[0]
    engine, topology = Engine(bundle, device="cpu"), bundle.topology
    influence = block_influence(engine)
    assert influence.shape == (len(topology.removable), bundle.manifest.images)
    rows = [row for row in json.loads((scanned / "scan.json").read_text())["rows"] if row["kind"] == "deletion"]
    for row, values in zip(rows, influence, strict=True):
        assert row["block_influence"]["value"] == pytest.approx(values.mean(), abs=1e-5)
        low, high = row["block_influence"]["interval"]
        assert 0 <= low < row["block_influence"]["value"] < high <= 2


def test_a_stopped_scan_goes_on(small: list[Bundle], scanned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = tmp_path / "journal.jsonl"
    lines = (scanned / "journal.jsonl").read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:9]) + lines[9][:40])  # killed while it wrote
    seen: list[Spec] = []
    evaluate = Engine.evaluate

    def counted(self: Engine, specs: list[Spec], **options: bool) -> object:
        seen.extend(specs)
        return evaluate(self, specs, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "evaluate", counted)
    again = scan_bundle(small[0], kinds=KINDS, journal=journal)
    assert len(seen) == len(lines) - 2 - 8  # without head and influence
    assert again.to_dict() == json.loads((scanned / "scan.json").read_text())
    assert scan_bundle(small[0], kinds=KINDS, journal=journal).to_dict() == again.to_dict()
    assert len(seen) == len(lines) - 2 - 8, "a finished scan measures nothing again"


def test_the_journal_of_another_network_is_not_used(small: list[Bundle], scanned: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes((scanned / "journal.jsonl").read_bytes())
    other = scan_bundle(small[1], kinds=["deletion"], journal=journal)
    assert other.bundle == small[1].fingerprint
    assert other.main.correct == small[1].main.correct


def test_text_figure_and_json_agree(
    small: list[Bundle], scanned: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        command.main([str(small[0].path), "--out", str(scanned), "--quiet", "--edits", *KINDS]) == 0
    )  # everything is in the journal
    printed = capsys.readouterr().out
    rows = json.loads((scanned / "scan.json").read_text())["rows"]
    for row in rows:
        assert f"{row['recalibrated']['drop_pct']:.2f} [" in printed
    assert "rank correlation of influence and drop over 7 blocks" in printed
    assert "block 9" in (scanned / "scan.html").read_text()
    changed = sum(row["changed_by_recalibration"] for row in rows)
    assert (f"warning: re-calibration changes the answer for {changed} of {len(rows)} edits" in printed) == (changed > 0)
    monkeypatch.setattr(cli, "installed", lambda package: package != "plotly")
    (scanned / "scan.html").unlink()
    assert command.main([str(small[0].path), "--out", str(scanned), "--quiet", "--edits", *KINDS]) == 0
    assert "without a figure, as plotly is not installed. " in capsys.readouterr().out
    assert not (scanned / "scan.html").exists()
    assert command.main([str(small[0].path), "--out", str(scanned), "--quiet", "--edits", *KINDS, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == rows


@pytest.mark.slow
def test_a_run_folder_and_weights_by_name(small: list[Bundle], tmp_path: Path) -> None:
    root = small[0].experiment.path.parents[1]
    run = root / "runs" / "small" / "common-0"
    arguments = ["--edits", "deletion", "--quiet"]
    assert command.main([str(run), "--out", str(tmp_path / "a"), *arguments]) == 0
    named = ["resnet20", "--init", str(run), "--dataset", f"folder:{root / 'pictures'}"]
    mean, std = (",".join(map(str, values)) for values in (small[0].experiment.mean, small[0].experiment.std))
    for _ in range(2):  # the second time, the run that was made of the weights is there
        options = ["--mean", mean, "--std", std, "--images", "100"]
        assert command.main([*named, "--out", str(tmp_path / "b"), *options, *arguments]) == 0
    first, second = (json.loads((tmp_path / name / "scan.json").read_text()) for name in "ab")
    assert first["main"]["correct"] == small[0].main.correct
    assert [row["spec"] for row in first["rows"]] == [row["spec"] for row in second["rows"]]
    assert second["images"] == 100


def test_the_scan_of_another_network_is_not_replaced(
    small: list[Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of two experiments are both called `common-0`, and exported files `model.onnx`."""
    experiment = small[0].experiment.path
    first, second = (tmp_path / name / "mine" / "common" for name in "ab")
    for path in (first, second):
        shutil.copytree(experiment, path.parent)
    monkeypatch.chdir(tmp_path)
    arguments = ["--edits", "deletion", "--quiet"]
    assert command.main([str(first), *arguments]) == 0
    (folder,) = (tmp_path / "scans").iterdir()
    kept = {name: (folder / name).read_bytes() for name in ("scan.json", "journal.jsonl")}
    with pytest.raises(UsageError, match=f"holds the scan of {first}. Give another folder with --out"):
        command.main([str(second), *arguments])
    assert {name: (folder / name).read_bytes() for name in kept} == kept
    assert command.main([str(second), *arguments, "--out", str(tmp_path / "other")]) == 0
    assert command.main([str(Path("a/../a/mine/common")), *arguments]) == 0, "the same one, written in another way"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing/here"], "there is no network, folder or file nothing/here; allowed: a run folder"),
        (["myrun"], "there is no network, folder or file myrun; allowed: a run folder"),
        (["myrun", "--dataset", "folder:x"], "there is no network, folder or file myrun; allowed: a run folder"),
        (["resnet-20", "--init", "x"], "there is no network, folder or file resnet-20; .*resnet20"),
        (["exported/resnet20-fashion"], "is an experiment, not one of its methods; allowed: .*METHOD"),
        (["README.md"], "README.md is a file, but no ONNX file"),
        (["tests"], "tests is neither a run folder nor a bundle"),
        (["exported/resnet20-fashion/common", "--dataset", "cifar10"], "a bundle with --dataset"),
        (["net.onnx"], "net.onnx without --dataset"),
        (["net.onnx", "--dataset", "folder:x", "--init", "y"], "an ONNX file with --init"),
        (["net.onnx", "--dataset", "folder:x"], "there is no file net.onnx"),
        (["resnet20"], "resnet20 without --dataset"),
        (["resnet20", "--images", "0"], "--images 0"),
    ],
)
def test_what_cannot_be_scanned(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(StimcoreError, match=sentence):
        command.main([*arguments, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_network_that_concatenates_has_nothing_to_remove() -> None:
    from stimcore.bundle import open_bundle

    bundle = open_bundle(next(Path("exported/densenet-loafing").glob("common")))
    with pytest.raises(UsageError, match="no block that can be removed: its blocks concatenate"):
        scan_bundle(bundle)


def test_spearman_is_the_correlation_of_ranks() -> None:
    generator = np.random.Generator(np.random.PCG64(0))
    first, second = generator.integers(0, 5, (2, 40)).astype(np.float64)

    def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
        order = np.sort(values)
        return np.array([np.flatnonzero(order == value).mean() for value in values])

    expected = np.corrcoef(ranks(first), ranks(second))[0, 1]
    assert spearman(first, second).item() == pytest.approx(expected)
    assert np.isnan(spearman(first, np.ones(40)).item())


def test_the_interval_of_the_rank_correlation_covers_the_truth() -> None:
    generator = np.random.Generator(np.random.PCG64(1))
    rates, images = np.linspace(0.1, 0.9, 6), 200
    covered = 0
    for seed in range(20):
        influence = rates[:, None] + generator.normal(0, 1.0, (6, images))
        deleted = generator.random((6, images)) > rates[:, None]
        estimate = rank_correlation(influence, np.ones(images, np.bool_), deleted, seed)
        assert estimate is not None
        covered += estimate.high >= 0.99
    assert covered >= 18
    assert rank_correlation(np.ones((2, 5)), np.ones(5, np.bool_), np.ones((2, 5), np.bool_)) is None


def test_recalibration_is_compared_image_by_image() -> None:
    on, off = np.array([True] * 90 + [False] * 10), np.array([True] * 60 + [False] * 40)
    change = recalibration_change(on, off)
    assert change.value == 30.0
    assert 20 < change.low < 30 < change.high < 40
    swapped = recalibration_change(off, on)
    assert (swapped.value, swapped.low, swapped.high) == (-30.0, -change.high, -change.low)
