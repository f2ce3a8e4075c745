"""The run folder: `run.json`, records, the lock, checkpoints, and which settings of two runs differ."""

import dataclasses
import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stimcore import cli
from stimcore.convert import __main__ as convert
from stimcore.data.images import Dataset, Images
from stimcore.errors import CheckpointError, NoRun, UsageError
from stimcore.export import __main__ as export
from stimcore.recipes.catalogue import recipe
from stimcore.runs import checkpoint
from stimcore.runs.compare import differences
from stimcore.runs.run import Run, append_record, describe_images, training_records, trim_records, writer_lock
from stimcore.runs.trained_run import open_run


@pytest.fixture
def run() -> Run:
    return Run(
        network="resnet20",
        input_shape=(1, 12, 12),
        num_classes=3,
        method="stimulative",
        seed=0,
        dataset="fashion-mnist",
        mean=(0.3,),
        std=(0.25,),
        options={"weight": 1.0},
        recipe=recipe("resnet20-fashion").to_dict(),
        machine={},
    )


def save(folder: Path, run: Run, epoch: int, *, network: Run | None = None) -> Path:
    """Write a checkpoint with fresh weights of a run, or of another network."""
    state = (network or run).build_network().module.state_dict()
    return checkpoint.save(folder, checkpoint.Checkpoint(epoch=epoch, network=state, auxiliary={}, optimizer={}, scaler={}))


def test_a_run_is_read_as_it_was_written(run: Run, tmp_path: Path) -> None:
    run.write(tmp_path)
    assert Run.read(tmp_path) == run
    assert run.label == "reduced recipe"
    assert dataclasses.replace(run, recipe={}).label == "imported weights"


def test_folders_that_are_not_run_folders_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(NoRun, match="is not a run folder: it has no run.json"):
        Run.read(tmp_path)
    for text in ("{", "[]", "1", "[" * 100_000):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(CheckpointError, match="run.json can't be read"):
            Run.read(tmp_path)


def test_newer_run_folders_are_refused_whatever_else_they_hold(run: Run, tmp_path: Path) -> None:
    for value in ({"format": 9}, dataclasses.asdict(run) | {"format": 2, "colour": "green"}):
        (tmp_path / "run.json").write_text(json.dumps(value))
        with pytest.raises(CheckpointError, match=r"has format [29]; allowed: 1\. A newer stimcore can read it\."):
            Run.read(tmp_path)
    for format in (0, -1, True, "1", None, 1.0):
        (tmp_path / "run.json").write_text(json.dumps(dataclasses.asdict(run) | {"format": format}))
        with pytest.raises(CheckpointError, match=r"has format [^ ]+; allowed: 1\.$"):
            Run.read(tmp_path)


def test_unknown_keys_are_ignored_and_required_ones_asked_for(run: Run, tmp_path: Path) -> None:
    value = json.loads(json.dumps(dataclasses.asdict(run)))
    (tmp_path / "run.json").write_text(json.dumps(value | {"colour": "green"}))
    assert Run.read(tmp_path) == run
    required = {
        "network",
        "input_shape",
        "num_classes",
        "method",
        "seed",
        "dataset",
        "mean",
        "std",
        "options",
        "recipe",
        "machine",
    }
    for key in value:
        (tmp_path / "run.json").write_text(json.dumps({name: value[name] for name in value if name != key}))
        if key in required:
            with pytest.raises(CheckpointError, match=f"run.json can't be read: it has no '{key}'"):
                Run.read(tmp_path)
        else:
            assert Run.read(tmp_path) == run


WRONG: dict[str, list[Any]] = {
    "network": [3, None, []],
    "spec": [5, []],
    "input_shape": [None, 3, "3x8x8", [3, 8], ["1", 12, 12], [1, 0, 12], [1, 12, 12.5], [True, 12, 12]],
    "num_classes": ["2", 0, -1, None, 2.0, True],
    "method": [7, None],
    "options": [None, [], 5],
    "recipe": [None, [], "resnet20", {"train_per_class": "x"}, {"train_per_class": -3}, {"label": 5}],
    "seed": ["x", None, 1.5, True],
    "dataset": [5, None],
    "data_root": [5, {}],
    "mean": [None, 0.3, [], ["a"], [0.1, 0.2], [float("nan")], [None], "0"],
    "std": [None, [0], [-1], ["0.3"], [float("inf")], [0.1, 0.2, 0.3]],
    "source": [5, None],
    "machine": [None, "a"],
    "name": [5, None],
    "holdout": ["no", 0, None],
    "images": [None, [], 3],
    "started": [5],
    "init": [None, []],
    "extended": [5, None, "12", [1], [{}], [{"before": "1", "after": 2}]],
}


def test_every_value_of_a_wrong_type_is_refused_in_one_sentence(run: Run, tmp_path: Path) -> None:
    value = json.loads(json.dumps(dataclasses.asdict(run)))
    assert set(WRONG) == set(value) - {"format"}
    for key, wrong in [(name, each) for name in WRONG for each in WRONG[name]]:
        (tmp_path / "run.json").write_text(json.dumps(value | {key: wrong}))
        with pytest.raises(CheckpointError, match=rf"run.json can't be read: .*{key}.*\. Was it changed by hand\? Restore it"):
            Run.read(tmp_path)
    for key in ("epochs", "learning_rate", "betas", "name", "train_per_class"):
        (tmp_path / "run.json").write_text(json.dumps(value | {"recipe": value["recipe"] | {key: ["a"]}}))
        with pytest.raises(CheckpointError, match=r"run.json can't be read: .*recipe"):
            Run.read(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(value | {"seed": -1, "spec": None, "data_root": None, "recipe": {}}))
    assert Run.read(tmp_path).seed == -1  # of an older version


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("epoch", "x"),
        ("epoch", -1),
        ("epoch", None),
        ("network", [1]),
        ("network", None),
        ("network", {"conv1.weight": 1}),
        ("auxiliary", None),
        ("optimizer", 5),
        ("scaler", None),
    ],
)
def test_checkpoints_with_values_of_a_wrong_type_are_skipped(run: Run, key: str, wrong: object, tmp_path: Path) -> None:
    older, path = save(tmp_path, run, 1), save(tmp_path, run, 2)
    torch.save(torch.load(path, weights_only=True) | {key: wrong}, path)
    with pytest.raises(CheckpointError, match=key):
        checkpoint.load(path)
    newest = checkpoint.newest(tmp_path)
    assert newest is not None
    assert (newest[0], len(newest[2])) == (older, 1)


def test_checkpoints_follow_the_same_rules(run: Run, tmp_path: Path) -> None:
    path = save(tmp_path, run, 1)
    state = torch.load(path, weights_only=True)
    torch.save(state | {"colour": "green"}, path)
    assert checkpoint.load(path).epoch == 1
    torch.save({key: value for key, value in state.items() if key != "scaler"}, path)
    with pytest.raises(CheckpointError, match="has no 'scaler'"):
        checkpoint.load(path)
    torch.save({"format": 2}, path)
    with pytest.raises(CheckpointError, match="has format 2; allowed: 1. A newer stimcore can read it"):
        checkpoint.load(path)


def test_a_trained_run_has_the_newest_weights(run: Run, tmp_path: Path) -> None:
    run.write(tmp_path)
    with pytest.raises(CheckpointError, match="has no checkpoint yet. Train at least one epoch first"):
        open_run(tmp_path)
    for epoch in (1, 2, 3):
        newest = save(tmp_path, run, epoch)
    trained = open_run(tmp_path)
    assert (trained.folder, trained.run, trained.checkpoint) == (tmp_path, run, newest)
    assert not trained.net.training
    stored = checkpoint.load(newest).network
    assert all(torch.equal(value, stored[key]) for key, value in trained.net.module.state_dict().items())
    assert [path.name for path in checkpoint.list_paths(tmp_path)] == ["checkpoint-0002.pt", "checkpoint-0003.pt"]


def test_weights_of_another_network_are_refused_by_name(run: Run, tmp_path: Path) -> None:
    run.write(tmp_path)
    save(tmp_path, run, 1, network=dataclasses.replace(run, network="resnet32"))
    with pytest.raises(CheckpointError, match=r"does not fit resnet20; unknown: layer1\.3\..* and \d+ more"):
        open_run(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(run: Run, tmp_path: Path, value: float) -> None:
    run.write(tmp_path)
    path = save(tmp_path, run, 1)
    state = checkpoint.load(path)
    state.network["conv1.weight"][0, 0, 0, 0] = value
    checkpoint.save(tmp_path, state)
    with pytest.raises(CheckpointError, match=r"does not fit resnet20; not finite: conv1\.weight"):
        open_run(tmp_path)


def test_newer_checkpoints_that_cant_be_read_are_named(run: Run, tmp_path: Path) -> None:
    run.write(tmp_path)
    older, newer = (save(tmp_path, run, epoch) for epoch in (1, 2))
    newer.write_bytes(newer.read_bytes()[:1000])
    trained = open_run(tmp_path)
    assert trained.checkpoint == older
    assert [sentence.split(" can't")[0] for sentence in trained.skipped] == [str(newer)]


def test_code_that_a_run_names_is_only_run_when_it_is_trusted(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder from elsewhere may name any module that lies on the import path."""
    (tmp_path / "foreign_network.py").write_text("print('it ran')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "run"
    folder.mkdir()
    save(folder, run, 1)
    dataclasses.replace(run, method="foreign_network:Method").write(folder)
    with pytest.raises(
        UsageError, match="names the method 'foreign_network:Method', whose code would be run. Add --trust-code"
    ):
        open_run(folder)
    dataclasses.replace(run, network="foreign_network:net").write(folder)
    with pytest.raises(UsageError, match="whose code would be run. Add --trust-code if"):
        open_run(folder)
    assert convert.main([str(folder), "--to", str(tmp_path / "weights.pt")]) == 0  # needs no code
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli.run(export.main, [str(folder), "--out", str(tmp_path / "exported")])
    assert "it ran" not in capsys.readouterr().out
    with pytest.raises(UsageError, match="there is no network 'foreign_network:net'"):
        open_run(folder, trust_code=True)
    assert capsys.readouterr().out == "it ran\n"


def test_a_run_on_a_holdout_has_no_test_accuracy(run: Run, tmp_path: Path) -> None:
    dataclasses.replace(run, holdout=True).write(tmp_path)
    save(tmp_path, run, 1)
    with pytest.raises(UsageError, match="so it has no test accuracy to export. Train again without --holdout"):
        open_run(tmp_path)


def test_records_are_appended_and_trimmed(tmp_path: Path) -> None:
    assert training_records(tmp_path) == []
    for epoch in (1, 2, 3):
        append_record(tmp_path, {"epoch": epoch})
    with (tmp_path / "training.jsonl").open("a") as handle:
        handle.write('{"epoch": 4, "los')  # a process was killed here
    assert [record["epoch"] for record in training_records(tmp_path)] == [1, 2, 3]
    trim_records(tmp_path, 2)
    assert (tmp_path / "training.jsonl").read_text() == '{"epoch": 1}\n{"epoch": 2}\n'


def _refusal(folder: Path, queue: "multiprocessing.Queue[str]") -> None:
    """Send what another process is refused with."""
    try:
        with writer_lock(folder):
            queue.put("not refused")
    except UsageError as reason:
        queue.put(str(reason))


def test_one_process_holds_the_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # a new interpreter would import torch to do no more than this
    queue: multiprocessing.Queue[str] = context.Queue()
    with writer_lock(tmp_path):
        pid = (tmp_path / "writer.pid").read_text().strip()
        other = context.Process(target=_refusal, args=(tmp_path, queue))
        other.start()
        assert f"is being written by process {pid}. Wait until it ends" in queue.get(timeout=120)
        other.join(timeout=60)
    assert not (tmp_path / "writer.pid").exists()


def test_settings_that_differ_are_named_with_both_values(run: Run) -> None:
    assert differences(run, run) == []
    changed = recipe("resnet20-fashion").with_changes({"epochs": 7, "watch": []}).to_dict()
    other = dataclasses.replace(run, recipe=changed, options={"weight": 3.0}, seed=1, name="x", machine={"cores": 2})
    assert differences(run, other) == [
        "epochs was 60, is now 7",
        "watch was smallest half d1-2-3 d3-2-1 d2-3-2, is now nothing",
        "weight was 1.0, is now 3.0",
        "seed was 0, is now 1",
    ]
    assert differences(run, dataclasses.replace(run, method="common", options={})) == ["method was stimulative, is now common"]


def test_images_are_compared_where_both_runs_have_hashes(run: Run) -> None:
    one, other = (dataclasses.replace(run, images={"train_sha256": value}) for value in ("a", "b"))
    assert differences(one, other) == ["images (train_sha256) was a, is now b"]
    assert differences(run, other) == []


def test_images_are_described_by_number_and_hash() -> None:
    pixels = Images(pixels=np.zeros((2, 1, 2, 2), np.uint8), labels=np.array([0, 1]))
    dataset = Dataset(name="x", train=pixels, test=pixels.first(1), classes=("a", "b"), mean=(0.0,), std=(1.0,))
    description = describe_images(dataset)
    assert (description["train"], description["evaluation"]) == (2, 1)
    assert description["train_sha256"] == pixels.sha256
    assert json.loads(json.dumps(description)) == description
