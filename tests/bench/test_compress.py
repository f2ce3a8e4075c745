"""The benchmark of ways to a small network: its network, its choices, its refusals, its page, and a tiny run of everything."""

import copy
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stimcore.bench.__main__ import main
from stimcore.bench.choices import COMPRESS_WAYS
from stimcore.bench.compress import suite as compress
from stimcore.bench.compress.figures import differences, training_times
from stimcore.bench.compress.net import Channels, PrunableResNet, prunable_resnet, with_convolved_shortcuts
from stimcore.bench.compress.page import FILE, PAGE, render, sentences
from stimcore.bench.compress.program import version
from stimcore.bench.compress.suite import nearest, widest
from stimcore.bench.compress.timing import ratios, session_of, take_turns
from stimcore.bench.compress.work import Training, Work, training_seconds
from stimcore.errors import UsageError
from stimcore.nets.catalogue import build, is_own
from stimcore.runs.run import Run
from tests.golden import golden_text

ROOT = Path(__file__).parents[2]
FULL = Channels((16, 32, 64), (16, 16, 16, 32, 32, 32, 64, 64, 64))


def test_a_trained_network_computes_the_same_with_convolutions_as_shortcuts() -> None:
    trained = build("resnet20", input_shape=(1, 28, 28), num_classes=10).eval()
    state = with_convolved_shortcuts(trained.module.state_dict())
    assert Channels.of(state) == FULL
    prunable = prunable_resnet(FULL, input_shape=(1, 28, 28), num_classes=10).eval()
    prunable.module.load_state_dict(state)
    images = torch.rand((3, 1, 28, 28), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(prunable(images), trained(images), atol=1e-5)
    assert prunable.topology.removable == trained.topology.removable


def test_a_network_is_built_by_the_channels_in_its_name() -> None:
    channels = Channels((5, 9), (2, 3, 7, 8))
    name = f"stimcore.bench.compress.net:{channels.name}"
    assert is_own(name)
    net = build(name, input_shape=(1, 8, 8), num_classes=4)
    assert Channels.of(net.module.state_dict()) == channels
    session = session_of(net)
    times = take_turns({"main": session, "again": session}, (1, 8, 8), batch=2, turns=3)
    assert {key: len(values) for key, values in times.items()} == {"main": 3, "again": 3}
    assert ratios(times, "main")["main"] == 1


@pytest.mark.parametrize("name", ["resnet_4_8_inner_1_2_3", "resnet_0_inner_1", "resnet_04_inner_1", "resnet_4", "other"])
def test_other_names_are_no_networks(name: str) -> None:
    with pytest.raises(UsageError, match="there is no network 'stimcore.bench.compress.net:"):
        build(f"stimcore.bench.compress.net:{name}", input_shape=(1, 8, 8), num_classes=4)


def test_sizes_are_those_nearest_to_the_targets() -> None:
    times = {"main": 1.0, "large": 0.81, "middle": 0.5, "small": 0.42}
    assert nearest(times) == ["large", "middle", "small"]
    assert nearest({"main": 1.0, "a": 0.6, "b": 0.59, "c": 0.58}) == ["a", "b", "c"]  # none of them twice


def test_what_is_pruned_is_as_wide_as_its_time_allows() -> None:
    assert widest({"wide": (1.031, 900), "fits": (1.03, 700), "narrow": (0.5, 100)}) == "fits"
    assert widest({"wide": (1.5, 900), "narrow": (1.2, 100)}) == "narrow"


@pytest.mark.parametrize(
    ("python", "reason"), [("/nowhere/python", "can't be started"), (sys.executable, "No module named 'torch_pruning'")]
)
def test_an_environment_without_torch_pruning_is_refused_in_one_sentence(python: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as refused:
        version(Path(python))
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--epochs", "0"], "--epochs 0; allowed: 1 and more"),
        (["--turns", "0"], "--turns 0; allowed: 1 and more"),
        (["--learning-rate", "nan"], "--learning-rate nan; allowed: above 0"),
        (["--seeds", "1", "1"], "--seeds 1 1; allowed: each seed once"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, options: Sequence[str], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        main(["compress", "--work", str(tmp_path / "work"), *options])
    assert not (tmp_path / "work").exists()


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    Work(folder=tmp_path).claim({"quick": False, "epochs": 10})
    Work(folder=tmp_path).claim({"quick": False, "epochs": 10})
    with pytest.raises(UsageError, match="was measured with epochs = 10, not 3"):
        Work(folder=tmp_path).claim({"quick": False, "epochs": 3})


def finished_run(folder: Path, training: Training, **changes: Any) -> None:
    """Write what a finished training leaves, without weights."""
    planned = Work(folder=folder).recipe.to_dict()
    run = Run(
        network="resnet20",
        input_shape=(1, 28, 28),
        num_classes=10,
        method=training.method,
        seed=training.seed,
        dataset="fashion-mnist",
        mean=(0.0,),
        std=(1.0,),
        spec="1.4.7" if training.spec else None,
        options={},
        recipe=planned | changes,
        machine={},
    )
    folder.mkdir(parents=True)
    run.write(folder)
    records = [{"epoch": epoch, "cpu_seconds": 1.5} for epoch in range(1, planned["epochs"] + 1)]
    (folder / "training.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")


def test_finished_runs_are_used_as_they_are(tmp_path: Path) -> None:
    twin = Training(name="twin-d1-1-1", seed=2, spec="d1-1-1")
    folder = tmp_path / "runs" / "resnet20-fashion" / "twin-d1-1-1-2"
    finished_run(folder, twin)
    work = Work(folder=tmp_path / "work", runs=tmp_path / "runs")
    assert work.trained(twin) == folder
    assert training_seconds(folder) == 90.0


@pytest.mark.parametrize(
    ("training", "changes", "reason"),
    [
        (Training(name="twin-d1-1-1", seed=0, spec="d1-1-1"), {"train_per_class": 100}, "train_per_class 100, not 500"),
        (Training(name="twin-d1-1-1", seed=1, spec="d1-1-1"), {}, "seed 1, not 0"),
        (Training(name="twin-d1-1-1", seed=0), {}, r"sub-network None, not \(1, 1, 1\)"),
        (Training(name="twin-d1-1-1", seed=0, spec="d1-1-1", method="stimulative"), {}, "method stimulative, not common"),
    ],
)
def test_a_folder_that_holds_another_training_is_refused(
    tmp_path: Path, training: Training, changes: dict[str, Any], reason: str
) -> None:
    finished_run(tmp_path / "runs" / "resnet20-fashion" / "twin-d1-1-1-0", training, **changes)
    work = Work(folder=tmp_path / "work", runs=tmp_path / "runs")
    with pytest.raises(UsageError, match=reason):
        work.trained(Training(name="twin-d1-1-1", seed=0, spec="d1-1-1"))


def test_differences_are_paired() -> None:
    first, second = np.array([True] * 6 + [False] * 4), np.array([True] * 4 + [False] * 6)
    hits = {("d1", "extracted"): first, ("d1", "alone"): second}
    (one,) = differences([hits], ["d1"])
    assert (one["way"], one["minus"], round(one["value"], 9), one["basis"]) == ("extracted", "alone", 20, "paired over images")
    (two,) = differences([hits, {("d1", "extracted"): first, ("d1", "alone"): first}], ["d1"])
    assert (round(two["value"], 9), two["basis"]) == (10, "over 2 seeds")


def test_one_stimulative_training_counts_once_for_all_sizes() -> None:
    seconds = {"common": 90.0, "stimulative": 100.0, "alone-a": 50.0, "alone-b": 30.0, "tuned-a": 5.0, "tuned-b": 3.0}
    assert training_times([seconds], ["a", "b"]) == {
        "alone": {"a": 50.0, "b": 30.0, "all": 80.0},
        "extracted": {"a": 100.0, "b": 100.0, "all": 100.0},
        "tuned": {"a": 105.0, "b": 103.0, "all": 108.0},
    }
    pruned = training_times([seconds | {"pruned-a": 4.0, "pruned-b": 2.0}], ["a", "b"])["pruned"]
    assert pruned == {"a": 94.0, "b": 92.0, "all": 96.0}


def example() -> dict[str, Any]:
    """Return a report as `bench compress` writes it, with one size."""
    row = {"seed": 0, "batch1_over_main": 0.4, "batch32_over_main": 0.3, "bytes": 300_000, "memory_mb": 8.0}
    keys = [("main", "common"), ("main", "stimulative"), *(("d1-1-1", way) for way in COMPRESS_WAYS)]
    accuracy: dict[str, Any] = {"main": {}, "d1-1-1": {}}
    for size, way in keys:
        accuracy[size][way] = {"value": 88.0, "low": 87.0, "high": 89.0}
    gap = {"size": "d1-1-1", "basis": "paired over images"}
    return {
        "network": "resnet20",
        "recipe": "resnet20-fashion",
        "machine": {"device": "a processor", "cores": 2, "torch_pruning": "1.6"},
        "n": 1,
        "seeds": [0],
        "quick": False,
        "turns": {"batch1": 60, "batch32": 12},
        "images": 10000,
        "train_images": 500,
        "epochs": 60,
        "fine_tuning": {"epochs": 10, "learning_rate": 0.01},
        "sizes": {"d1-1-1": 0.4},
        "pruned": {"d1-1-1": {"ratio": 0.5, "round_to": 8, "over_size": 1.2}},
        "ways": list(COMPRESS_WAYS),
        "accuracy": accuracy,
        "differences": [
            {**gap, "way": "extracted", "minus": "alone", "value": -1.32, "low": -1.81, "high": -0.83},
            {**gap, "way": "tuned", "minus": "alone", "value": 0.1, "low": -0.4, "high": 0.6},
        ],
        "training_s": {way: {"d1-1-1": 300.0, "all": 1500.0 if way == "extracted" else 900.0} for way in COMPRESS_WAYS},
        "rows": [{**row, "size": size, "way": way} for size, way in keys],
    }


def test_the_page_says_what_differs_and_what_a_training_costs() -> None:
    text = " ".join(sentences(example()))
    assert "`d1-1-1` -1.32 points [-1.81, -0.83]." in text
    assert "`d1-1-1` +0.10 points [-0.40, 0.60], no difference that can be shown" in text
    assert "0.20 for `d1-1-1`; all 1 together take 0.60" in text
    page = " ".join(render(example()).split())
    assert "No share was fast enough for `d1-1-1` (1.20 times)" in page
    assert "50% of the channels go, what is left is a multiple of 8" in page
    assert "shared with other work" not in page
    assert "shared with other work" in render(example() | {"load": 2.0})
    assert "Tiny sizes" in render(example() | {"quick": True})
    left_out = copy.deepcopy(example()) | {"pruned": {}, "ways": ["alone", "extracted", "tuned"]}
    assert "Pruned networks were left out" in render(left_out)


@pytest.mark.golden
def test_the_page_is_made_from_the_committed_measurement() -> None:
    file = ROOT / FILE
    text = render(json.loads(file.read_text(encoding="utf-8")) if file.exists() else None)
    assert golden_text(ROOT / PAGE, text) == text


def prune(python: Path, weights: Path, folder: Path, shape: Sequence[int], asked: Sequence[tuple[float, int]]) -> list[Any]:
    """Stand for Torch-Pruning: write random weights with fewer channels."""
    rows = []
    for ratio, multiple in asked:
        kept = [max(1, round((1 - ratio) * count)) for count in (*FULL.stages, *FULL.inner)]
        net = PrunableResNet(Channels(tuple(kept[:3]), tuple(kept[3:])), in_channels=1, num_classes=10)
        torch.save(net.state_dict(), folder / f"{ratio}-{multiple}.pt")
        rows.append({"file": f"{ratio}-{multiple}.pt", "ratio": ratio, "round_to": multiple, "seconds": 0.5})
    return rows


@pytest.mark.slow
def test_everything_runs_and_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compress, "RATIOS", (0.3, 0.7))
    monkeypatch.setattr(compress, "ROUND_TO", (1,))
    monkeypatch.setattr(compress, "prune_outside", prune)
    monkeypatch.setattr(compress, "version", lambda python: "1.0")
    target = tmp_path / "compress.json"
    options = ["compress", "--work", str(tmp_path / "work"), "--quick", "--sizes", "d2-2-2", "d1-1-1", "--json", str(target)]
    assert main([*options, "--seeds", "0"]) == 0
    first = json.loads(target.read_text(encoding="utf-8"))
    assert first["ways"] == ["alone", "extracted", "tuned"]
    assert {(row["size"], row["way"]) for row in first["rows"]} == {
        ("main", "common"),
        ("main", "stimulative"),
        *((size, way) for size in ("d2-2-2", "d1-1-1") for way in first["ways"]),
    }
    checkpoints = {path: path.stat().st_mtime_ns for path in (tmp_path / "work" / "runs").rglob("*.pt")}
    assert main([*options, "--seeds", "0", "--torch-pruning", sys.executable]) == 0
    second = json.loads(target.read_text(encoding="utf-8"))
    assert second["ways"] == list(COMPRESS_WAYS)
    assert second["training_s"]["pruned"]["all"] > second["training_s"]["pruned"]["d1-1-1"] > 0.5
    assert {path: path.stat().st_mtime_ns for path in checkpoints} == checkpoints, "nothing was trained twice"
    kept = {(row["size"], row["way"]): row["correct"] for row in first["rows"]}
    assert all(row["correct"] == kept.get((row["size"], row["way"]), row["correct"]) for row in second["rows"])
    assert "no figures to quote" in render(second)
    assert main([*options[:4], "--sizes", "d1-1-1", "--seeds", "0", "--json", str(target)]) == 0
    assert list(json.loads(target.read_text(encoding="utf-8"))["sizes"]) == ["d1-1-1"]
    with pytest.raises(UsageError, match="was measured with the sizes .*, not d1-1-2"):
        main([*options[:4], "--sizes", "d1-1-2"])
