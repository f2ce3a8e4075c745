"""The training loop: what it leaves behind, that it goes on where it stopped, and that it stops when there is no point."""

import dataclasses
import json
import math
import random
from pathlib import Path

import pytest
import torch
from torch import nn

from stimcore.data.images import Dataset
from stimcore.errors import CheckpointError, TrainingFailed, UsageError
from stimcore.methods.base import Losses, Method, StepContext
from stimcore.methods.stimulative import Stimulative
from stimcore.methods.table import METHODS
from stimcore.nets.cut import cut
from stimcore.nets.norms import batch_norms, to_synchronised
from stimcore.nets.staged import StagedNet
from stimcore.recipes.recipe import Recipe
from stimcore.runs import checkpoint
from stimcore.runs.run import training_records
from stimcore.train.trainer import Trainer
from tests.heavy import all_slow_but
from tests.train.conftest import MakeTrainer, digest, newest


@pytest.mark.parametrize("method", all_slow_but(METHODS, "stimulative", "self_distillation"))
def test_resumed_in_the_middle_it_ends_bit_identical(method: str, trainer_for: MakeTrainer, tmp_path: Path) -> None:
    whole, first = tmp_path / "whole", tmp_path / "first"
    whole.mkdir()
    first.mkdir()
    list(trainer_for(method).run(whole))
    running = trainer_for(method).run(first)
    next(running)
    running.close()
    later = trainer_for(method)
    path, state, _ = newest(first)
    assert state.epoch == 1
    later.resume(state, str(path))
    list(later.run(first))
    assert digest(newest(first)[1]) == digest(newest(whole)[1])
    for one, other in zip(training_records(whole), training_records(first), strict=True):
        for key in ("epoch", "losses", "learning_rate", "test"):
            assert one[key] == other[key]


def test_adamw_is_resumed_with_its_averages(trainer_for: MakeTrainer, recipe: Recipe, tmp_path: Path) -> None:
    """It has other state than SGD: two averages and a count of steps for every tensor."""
    plan = dataclasses.replace(recipe, network="resnet8", optimizer="adamw", betas=(0.8, 0.95), learning_rate=0.002)
    whole, first = tmp_path / "whole", tmp_path / "first"
    whole.mkdir()
    first.mkdir()
    trainer = trainer_for("stimulative", plan=plan)
    rows = list(trainer.run(whole))
    group = trainer.optimizer.state_dict()["param_groups"][0]
    assert (group["betas"], group["weight_decay"]) == ((0.8, 0.95), recipe.weight_decay)
    assert rows[-1]["losses"]["loss"] < rows[0]["losses"]["loss"]
    running = trainer_for("stimulative", plan=plan).run(first)
    next(running)
    running.close()
    later = trainer_for("stimulative", plan=plan)
    path, state, _ = newest(first)
    assert {"exp_avg", "exp_avg_sq", "step"} == set(state.optimizer["state"][0])
    later.resume(state, str(path))
    list(later.run(first))
    assert digest(newest(first)[1]) == digest(newest(whole)[1])
    other = trainer_for("stimulative", plan=dataclasses.replace(plan, betas=(0.9, 0.999)))
    list(other.run(tmp_path))
    assert digest(newest(tmp_path)[1]) != digest(newest(whole)[1])


def test_another_seed_leads_elsewhere(trainer_for: MakeTrainer, tmp_path: Path) -> None:
    digests = set()
    for seed in (0, 0, 1):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        list(trainer_for("stimulative", seed=seed).run(folder))
        digests.add(digest(newest(folder)[1]))
    assert len(digests) == 2


def test_a_run_learns_and_says_so(trainer_for: MakeTrainer, recipe: Recipe, tmp_path: Path) -> None:
    rows = list(trainer_for("stimulative", plan=dataclasses.replace(recipe, epochs=12, augmentation="none")).run(tmp_path))
    assert rows == training_records(tmp_path)
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    assert rows[-1]["losses"]["main_ce"] < 0.7 * rows[0]["losses"]["main_ce"]
    assert rows[-1]["test"]["correct"] > 6
    assert rows[-1]["test"]["images"] == 12
    low, high = rows[-1]["test"]["interval_pct"]
    assert 0 <= low <= rows[-1]["test"]["accuracy_pct"] <= high <= 100
    for key in ("seconds", "cpu_seconds", "images_per_second", "peak_memory_bytes", "learning_rate"):
        assert rows[0][key] > 0
    assert [path.name for path in checkpoint.list_paths(tmp_path)] == ["checkpoint-0011.pt", "checkpoint-0012.pt"]


def test_training_leaves_the_global_generators_alone(trainer_for: MakeTrainer, tmp_path: Path) -> None:
    before = torch.random.get_rng_state(), random.getstate()
    list(trainer_for("stimulative").run(tmp_path))
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1] == random.getstate()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Breaking(Method):
    """Common training whose loss is not a number from some step on."""

    from_step: int

    def step(self, net: StagedNet, auxiliary: nn.Module | None, batch: StepContext) -> Losses:
        del auxiliary  # there are no heads to train
        loss = net(batch.images).square().mean()
        if net.module.get_buffer("bn1.num_batches_tracked") > self.from_step:
            loss = loss * math.nan
        batch.backward(loss)
        return {"loss": loss.detach()}


def test_a_method_knows_how_far_the_run_is(trainer_for: MakeTrainer, recipe: Recipe, tiny: Dataset, tmp_path: Path) -> None:
    """With a warm-up of one epoch the weight is smaller in the first epoch only."""
    plain = trainer_for("stimulative")
    method = Stimulative(weight=4.0, weight_warmup=1.0)
    rows = list(Trainer(plain.net, method, dataclasses.replace(recipe, epochs=2), tiny, plain.settings).run(tmp_path))
    weights = [(row["losses"]["loss"] - row["losses"]["main_ce"]) / row["losses"]["sub_kl"] for row in rows]
    assert 0 < weights[0] < 3.9
    assert weights[1] == pytest.approx(4.0, rel=1e-4)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_epoch(
    trainer_for: MakeTrainer, recipe: Recipe, tiny: Dataset, tmp_path: Path
) -> None:
    plain = trainer_for()
    trainer = Trainer(plain.net, Breaking(from_step=4), recipe, tiny, plain.settings)
    with pytest.raises(TrainingFailed, match="the loss was nan in epoch 2, step 2.*The last finished epoch is kept"):
        list(trainer.run(tmp_path))
    assert [row["epoch"] for row in training_records(tmp_path)] == [1]
    _, state, complaints = newest(tmp_path)
    assert state.epoch == 1
    assert not complaints
    assert all(torch.isfinite(value.float()).all() for value in state.network.values())


@pytest.mark.parametrize(
    ("extra", "error", "sentence"),
    [
        ({"side": torch.tensor(math.nan)}, TrainingFailed, "side nan in epoch 1. The last finished epoch is kept"),
        ({"side": 0.5}, UsageError, "returned side, which is no scalar tensor; allowed: scalar tensors"),
        ({"side": torch.zeros(2)}, UsageError, "returned side, which is no scalar tensor"),
    ],
)
def test_every_loss_of_a_method_is_a_finite_scalar(
    trainer_for: MakeTrainer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    extra: dict[str, object],
    error: type[Exception],
    sentence: str,
) -> None:
    """Otherwise the checkpoint is written, and then its record can't be."""
    trainer = trainer_for("common")
    step = trainer.train_step
    monkeypatch.setattr(trainer, "train_step", lambda context, number: {**step(context, number), **extra})
    with pytest.raises(error, match=sentence):
        next(trainer.run(tmp_path))
    assert not checkpoint.list_paths(tmp_path)


def test_a_rate_that_is_far_too_high_does_not_go_unnoticed(trainer_for: MakeTrainer, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed):
        list(trainer_for(plan=dataclasses.replace(recipe, epochs=80, learning_rate=1e6)).run(tmp_path))


def test_a_network_that_only_guesses_is_stopped_early(
    trainer_for: MakeTrainer, recipe: Recipe, tiny: Dataset, tmp_path: Path
) -> None:
    """Without a rate nothing is learned: logits of zero guess, for ever."""
    plan = dataclasses.replace(recipe, epochs=80, learning_rate=1e-12, evaluate_every=80)
    plain = trainer_for(plan=plan)
    trainer = Trainer(cut(plain.net, plain.net.topology.ordered([1, 1, 1])), plain.method, plan, tiny, plain.settings)
    for parameter in trainer.net.head.parameters():
        parameter.data.zero_()
    with pytest.raises(TrainingFailed, match="collapsed: its cross entropy was 1.10 in epoch 67, 1.10 is guessing"):
        list(trainer.run(tmp_path))
    assert len(training_records(tmp_path)) == 67
    assert len(checkpoint.list_paths(tmp_path)) == 2


def test_checkpoints_of_others_are_refused(trainer_for: MakeTrainer, recipe: Recipe, tmp_path: Path) -> None:
    list(trainer_for("stage_supervision", plan=dataclasses.replace(recipe, epochs=1)).run(tmp_path))
    path, state, _ = newest(tmp_path)
    with pytest.raises(CheckpointError, match="of another method"):
        trainer_for("common").resume(state, str(path))
    with pytest.raises(CheckpointError, match="does not fit resnet32; missing"):
        trainer_for("stage_supervision", plan=dataclasses.replace(recipe, network="resnet32")).resume(state, str(path))
    broken = dict(state.network) | {"conv1.weight": state.network["conv1.weight"] * math.nan}
    with pytest.raises(CheckpointError, match="not finite"):
        trainer_for("stage_supervision").resume(dataclasses.replace(state, network=broken), str(path))


def test_what_does_not_fit_together_is_refused(trainer_for: MakeTrainer, recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="48 training images; allowed: at least one batch of 64"):
        trainer_for(plan=dataclasses.replace(recipe, batch_size=64))
    with pytest.raises(UsageError, match="--compile with this method"):
        trainer_for("stochastic_depth", compile_blocks=True)
    with pytest.raises(UsageError, match="synchronised batch norms on cpu; allowed: CUDA"):
        trainer_for(synchronise_norms=True)
    with pytest.raises(UsageError, match="-1 workers; allowed: 0 and more"):
        trainer_for(workers=-1)
    with pytest.raises(UsageError, match="fp16 needs a CUDA device; allowed: fp32 or bf16"):
        trainer_for(plan=dataclasses.replace(recipe, precision="fp16"))


def test_the_last_incomplete_batch_is_left_out(trainer_for: MakeTrainer, recipe: Recipe, tmp_path: Path) -> None:
    trainer = trainer_for(plan=dataclasses.replace(recipe, batch_size=20, epochs=1))
    assert trainer.steps_per_epoch == 2
    row = next(trainer.run(tmp_path))
    assert row["images_per_second"] == pytest.approx(40 / row["seconds"], rel=0.05)


def test_synchronised_norms_take_every_place_and_keep_every_name(trainer_for: MakeTrainer) -> None:
    net = trainer_for().net
    names, count = list(net.state_dict()), len(batch_norms(net))
    ends = dict(net.branch_ends)
    net.replace(to_synchronised)
    assert list(net.state_dict()) == names
    reached = {id(module) for part in net.route(net.topology.full) for module in part.module.modules()}
    synchronised = [norm for norm in net.modules() if isinstance(norm, torch.nn.SyncBatchNorm)]
    assert len(synchronised) == count
    assert all(id(norm) in reached for norm in synchronised)
    assert not any(
        type(norm) is torch.nn.BatchNorm2d for part in net.route(net.topology.full) for norm in part.module.modules()
    )
    assert set(net.branch_ends) == set(ends)
    assert all(isinstance(end, torch.nn.SyncBatchNorm) for end in net.branch_ends.values())


def test_bf16_autocast_trains(trainer_for: MakeTrainer, recipe: Recipe, tmp_path: Path) -> None:
    row = next(trainer_for("stimulative", plan=dataclasses.replace(recipe, precision="bf16", epochs=1)).run(tmp_path))
    assert math.isfinite(row["losses"]["loss"])
    assert all(value.dtype != torch.bfloat16 for value in newest(tmp_path)[1].network.values())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["common", "stimulative"])
def test_compiled_blocks_compute_the_same(
    method: str, trainer_for: MakeTrainer, recipe: Recipe, tiny: Dataset, tmp_path: Path
) -> None:
    rows = []
    for compiled in (False, True):
        folder = tmp_path / str(compiled)
        folder.mkdir()
        plan = dataclasses.replace(recipe, epochs=1)
        plain = trainer_for(method, plan=plan)
        twin = cut(plain.net, plain.net.topology.ordered([2, 1, 1]))  # six parts to compile instead of eleven
        settings = dataclasses.replace(plain.settings, compile_blocks=compiled)
        rows.append(next(Trainer(twin, plain.method, plan, tiny, settings).run(folder)))
    assert rows[1]["test"]["correct"] == pytest.approx(rows[0]["test"]["correct"], abs=1)
    assert rows[1]["losses"] == pytest.approx(rows[0]["losses"], rel=1e-3)
    keys = [list(newest(tmp_path / str(compiled))[1].network) for compiled in (False, True)]
    assert keys[0] == keys[1]


def test_tensorboard_is_written_or_its_absence_said(trainer_for: MakeTrainer, recipe: Recipe, tmp_path: Path) -> None:
    import importlib.util

    running = trainer_for(plan=dataclasses.replace(recipe, epochs=1), tensorboard=True).run(tmp_path)
    if importlib.util.find_spec("tensorboard") is None:
        with pytest.raises(UsageError, match="TensorBoard is not installed. 'pip install tensorboard' installs it"):
            list(running)
    else:
        list(running)
        assert any((tmp_path / "tensorboard").iterdir())


def test_records_are_json_lines_without_nan(trainer_for: MakeTrainer, tmp_path: Path) -> None:
    list(trainer_for().run(tmp_path))
    lines = (tmp_path / "training.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert all(json.loads(line)["epoch"] == i for i, line in enumerate(lines, 1))
