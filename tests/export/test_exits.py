"""The file of exits: its outputs are what torch's heads answer, and what it states is what onnxruntime measures."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from stimcore.bundle import Bundle, ExitEntry, open_bundle
from stimcore.bundle.__main__ import main as bundle_command
from stimcore.errors import BundleError, CheckpointError, UsageError
from stimcore.export.__main__ import main as export
from stimcore.methods.table import restore
from stimcore.runs import checkpoint
from stimcore.runs.trained_run import open_run
from stimcore.serve.repository.describe import method_info
from stimcore.subnets.topology import Topology
from stimcore.train.seeds import layers_seeded
from tests.bundles import QUICKLY, write_run
from tests.heavy import all_slow_but

Train = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def pictures(small: list[Bundle]) -> Path:
    return small[0].experiment.path.parents[1] / "pictures"


@pytest.fixture
def train(pictures: Path, tmp_path: Path) -> Train:
    """Write a run folder with heads as training leaves them, with random weights."""

    def write(network: str, method: str) -> Path:
        folder = tmp_path / "runs" / method
        write_run(folder, pictures, network, method=method)
        (path,) = checkpoint.list_paths(folder)
        state, trained = checkpoint.load(path), open_run(folder)
        with layers_seeded(0, "auxiliary"):
            heads = restore(method, {}).make_auxiliary(trained.net)
        assert heads is not None
        checkpoint.save(
            folder,
            checkpoint.Checkpoint(epoch=1, network=state.network, auxiliary=heads.state_dict(), optimizer={}, scaler={}),
        )
        return folder

    return write


def exported(run: Path, *options: str) -> Bundle:
    out = run.parents[1] / "exported" / "exits"
    command = [str(run), "--out", str(out), "--subnets", "main", "--json", str(out.parent / "report.json"), *QUICKLY, *options]
    assert export([*command, "--quiet"]) == 0
    return open_bundle(out / run.name)


@pytest.mark.parametrize(
    ("network", "method", "blocks"),
    [
        ("resnet8", "stage_supervision", [1, 2, 3]),
        ("vit-1-2-d8", "layer_supervision", [1, 2, 3]),  # tokens
        *all_slow_but([("resnet8", "self_distillation", [1, 2])]),
    ],
)
def test_every_exit_is_an_output_whose_stated_counts_onnxruntime_measures(
    network: str, method: str, blocks: list[int], train: Train
) -> None:
    bundle = exported(train(network, method), "--exits")
    path = bundle.path / "standalone" / "exits.onnx"
    entries = bundle.manifest.exits
    assert [entry.block for entry in entries] == blocks
    pixels, labels = bundle.experiment.evaluation
    session = ort.InferenceSession(path)
    assert [output.name for output in session.get_outputs()] == ["logits", *(f"exit{block}" for block in blocks)]
    assert {tuple(output.shape) for output in session.get_outputs()} == {("N", len(bundle.experiment.classes))}
    outputs = session.run(None, {"images": bundle.experiment.normalise(pixels)})
    counts = [int((logits.argmax(1) == labels).sum()) for logits in outputs]
    assert counts == [bundle.main.correct, *(entry.correct for entry in entries)]
    # the catalogue of the server says what can be re-calibrated
    assert method_info(bundle).batch_norms == network.startswith("resnet")
    # what onnx cuts off behind the first exit, as the documentation shows, is this exit alone
    first = entries[0].output
    onnx.utils.extract_model(str(path), str(path.with_name("cut.onnx")), ["images"], [first])
    (alone,) = ort.InferenceSession(path.with_name("cut.onnx")).run(None, {"images": bundle.experiment.normalise(pixels)})
    path.with_name("cut.onnx").unlink()
    assert (alone.argmax(1) == labels).sum() == entries[0].correct
    # random heads differ, and what runs up to a later exit is more
    assert all(not np.allclose(outputs[0], logits) for logits in outputs[1:])
    assert [entry.macs for entry in entries] == sorted({entry.macs for entry in entries})
    assert [entry.parameters for entry in entries] == sorted({entry.parameters for entry in entries})
    stated = {item.key: item.value for item in onnx.load(path).metadata_props}
    assert [row["correct"] for row in json.loads(stated["exits"])["exits"]] == counts[1:]
    card = (bundle.experiment.path / "README.md").read_text()
    assert all(f"| `exit{entry.block}` | {entry.block} | {entry.accuracy_pct:.2f}%" for entry in entries if card)
    assert f"`{bundle.method}/standalone/exits.onnx` | `exit{blocks[0]}` | {blocks[0]} | " in card
    assert bundle_command(["verify", str(bundle.experiment.path)]) == 0


@pytest.mark.slow  # two whole exports
def test_exits_stay_when_the_same_run_is_exported_again(train: Train) -> None:
    run = train("resnet14", "stage_supervision")
    first = exported(run, "--exits")
    (first.path / "hits.npz").unlink()  # a broken bundle is exported anew, and keeps what is still valid
    again = exported(run)
    assert again.manifest.exits == first.manifest.exits
    assert again.has("standalone/exits.onnx")
    # other listed networks make it another bundle
    other = exported(run, "--subnets", "d1-1-1")
    assert other.manifest.exits == []
    assert not other.has("standalone/exits.onnx")


def test_runs_without_heads_are_refused(small: list[Bundle], train: Train, tmp_path: Path) -> None:
    runs = small[0].experiment.path.parents[1] / "runs" / "small"
    with pytest.raises(UsageError, match=r"method 'common', which trains no heads .* allowed: runs of layer_supervision"):
        export([str(runs / "common-0"), "--out", str(tmp_path / "exported" / "x"), *QUICKLY, "--exits", "--quiet"])
    run = train("resnet8", "stage_supervision")
    (path,) = checkpoint.list_paths(run)
    state = checkpoint.load(path)
    checkpoint.save(run, checkpoint.Checkpoint(epoch=1, network=state.network, auxiliary={}, optimizer={}, scaler={}))
    with pytest.raises(CheckpointError, match="has no heads for the exits of 'stage_supervision'"):
        export([str(run), "--out", str(tmp_path / "exported" / "x"), *QUICKLY, "--exits", "--quiet"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block": 10}, "the network has the blocks 1 to 3"),
        ({"correct": "x"}, "'correct' of an exit is x"),
        ({"file": "../exits.onnx"}, "exits.onnx"),
    ],
)
def test_exits_that_make_no_sense_are_refused(change: dict[str, object], message: str) -> None:
    entry = ExitEntry(
        file="standalone/exits.onnx",
        output="exit1",
        block=1,
        accuracy_pct=50.0,
        correct=5,
        correct_torch=5,
        parity=1e-6,
        agreement=1.0,
        parameters=10,
        macs=100,
    )
    topology = Topology.of("toy", [1, 2])
    assert ExitEntry.from_dict(asdict(entry) | {"later": 1}, topology) == entry
    with pytest.raises((ValueError, BundleError), match=message):
        ExitEntry.from_dict(asdict(entry) | change, topology)
