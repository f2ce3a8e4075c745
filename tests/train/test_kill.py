"""Never lost: real processes that are killed, real disks that are full, files that were cut off."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from stimcore import cli, files
from stimcore.errors import CheckpointError
from stimcore.experiments.commands import is_finished
from stimcore.runs import checkpoint
from stimcore.runs.run import training_records, writer_lock
from stimcore.runs.trained_run import open_run
from stimcore.train import __main__ as train
from tests.train.conftest import digest, newest

ROOT = Path(__file__).parents[2]


def command(folder: Path, run_dir: Path, *more: str, method: str = "stimulative", epochs: int = 6) -> list[str]:
    """Return the command that trains six short epochs on a folder of images."""
    options = ["--method", method, "--epochs", str(epochs), "--batch-size", "16", "--learning-rate", "0.02", "--quiet"]
    where = ["--dataset", f"folder:{folder}", "--train-per-class", "0", "--run-dir", str(run_dir), "--device", "cpu"]
    return [sys.executable, "-m", "stimcore.train", "resnet20-fashion", *options, *where, *more]


def environment() -> dict[str, str]:
    """One thread, so that sums are done in one order."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def trained(folder: Path, run_dir: Path, *more: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        command(folder, run_dir, *more, **options), env=environment(), capture_output=True, text=True, timeout=300, check=False
    )


def final(run_dir: Path) -> str:
    """Hash of the newest checkpoint."""
    return digest(newest(run_dir)[1])


def _killed_again_and_again(folder: Path, run_dir: Path, whole: Path, seconds: float, kills: int, seed: int) -> None:
    """Kill a run at random moments, resume it each time, and compare its result with that of a run that nothing disturbed."""
    rng = random.Random(seed)
    for attempt in range(kills):
        before = {path.name for path in checkpoint.list_paths(run_dir)}
        process = subprocess.Popen(
            command(folder, run_dir, *(["--resume"] if attempt else [])),
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # half of the time at any moment from its start on, else around the moment when a checkpoint is being written
        deadline = time.monotonic() + 60
        if rng.random() < 0.5:
            while process.poll() is None and time.monotonic() < deadline:
                if {path.name for path in checkpoint.list_paths(run_dir)} - before or list(run_dir.glob(".checkpoint*.part")):
                    break
                time.sleep(0.001)
            pause = rng.uniform(0, 0.15)
        else:
            pause = rng.uniform(0, seconds)
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = trained(folder, run_dir, "--resume")
    assert done.returncode == 0, done.stderr
    assert final(run_dir) == final(whole)
    assert [row["epoch"] for row in training_records(run_dir)] == [row["epoch"] for row in training_records(whole)]
    assert [row["losses"] for row in training_records(run_dir)] == [row["losses"] for row in training_records(whole)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images, and a run on it, in this process, that nothing disturbed."""
    from tests.train.conftest import pictures, write_folder

    root = tmp_path_factory.mktemp("kill")
    write_folder(root / "pictures", pictures(48), "train")
    write_folder(root / "pictures", pictures(12, seed=1), "test")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert train.main(command(root / "pictures", root / "whole")[3:]) == 0
    torch.set_num_threads(threads)
    return root


@pytest.fixture(scope="module")
def whole_s(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """Seconds from the start to the end of a process that does the whole run."""
    start = time.monotonic()
    done = trained(reference / "pictures", tmp_path_factory.mktemp("timed") / "run")
    assert done.returncode == 0, done.stderr
    return time.monotonic() - start


def test_a_process_that_ends_between_checkpoint_and_record_loses_neither(reference: Path, tmp_path: Path) -> None:
    """The record has the accuracy of the epoch, and what counts a run as finished."""
    whole, run_dir = reference / "whole", Path(shutil.copytree(reference / "whole", tmp_path / "run"))
    *before, last = training_records(whole)
    files.write_jsonl(run_dir / "training.jsonl", before)
    assert is_finished(run_dir), "it was trained to its last epoch"
    trained(reference / "pictures", run_dir, "--resume")
    *records, found = training_records(run_dir)
    assert records == before
    assert found == {key: value for key, value in last.items() if key != "checkpoint_seconds"}


@pytest.mark.slow
def test_killed_twice_it_ends_with_the_same_weights(reference: Path, whole_s: float, tmp_path: Path) -> None:
    # with this seed once at any moment, and once while a checkpoint is being written
    _killed_again_and_again(reference / "pictures", tmp_path / "run", reference / "whole", whole_s, kills=2, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_killed_many_times_it_ends_with_the_same_weights(seed: int, reference: Path, whole_s: float, tmp_path: Path) -> None:
    _killed_again_and_again(reference / "pictures", tmp_path / "run", reference / "whole", whole_s, kills=10, seed=seed)


def test_a_full_disk_is_one_sentence_and_keeps_what_was_finished(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A limit on the size of this process's files stands for the full disk: no checkpoint can be written."""
    run_dir = tmp_path
    shutil.copytree(reference / "whole", run_dir, dirs_exist_ok=True)
    checkpoint.list_paths(run_dir)[-1].unlink()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200 * 1024, before[1]))
    try:
        code, stderr = here(capsys, *command(reference / "pictures", run_dir, "--resume")[3:])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 1
    assert stderr == f"error: File too large ({run_dir / 'checkpoint-0006.pt'}).\n"
    assert {path.name for path in run_dir.glob(".*")} <= {".lock"}  # nothing half written is left
    assert [path.name for path in checkpoint.list_paths(run_dir)] == ["checkpoint-0005.pt"]
    assert here(capsys, *command(reference / "pictures", run_dir, "--resume")[3:])[0] == 0
    assert final(run_dir) == final(reference / "whole")


def here(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    """The same command in this process: its exit code and standard error."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.run(train.main, argv)
    return int(ended.value.code or 0), capsys.readouterr().err


def test_a_truncated_checkpoint_is_named_and_the_one_before_is_used(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = command(reference / "pictures", tmp_path)[3:]
    shutil.copytree(reference / "whole", tmp_path, dirs_exist_ok=True)
    newest = checkpoint.list_paths(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:5000])
    (tmp_path / ".checkpoint-0007.pt.0a1b2c3d.part").write_bytes(b"of a process that was killed while it wrote")
    code, stderr = here(capsys, *argv, "--resume")
    assert code == 0
    assert "checkpoint-0006.pt can't be read as a checkpoint" in stderr
    assert "Continuing from checkpoint-0005.pt." in stderr
    assert {path.name for path in tmp_path.glob(".*")} <= {".lock"}, "nothing half written is left"
    assert stderr.count("\n") == 1
    assert final(tmp_path) == final(reference / "whole")


def test_when_no_checkpoint_can_be_read_it_says_so(reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(reference / "whole", tmp_path, dirs_exist_ok=True)
    for path in checkpoint.list_paths(tmp_path):
        path.write_bytes(b"not a checkpoint")
    code, stderr = here(capsys, *command(reference / "pictures", tmp_path, "--resume")[3:])
    assert code == 1
    assert stderr.count("\n") == 1
    assert "No older checkpoint can be read either; start the run again without --resume." in stderr
    with pytest.raises(CheckpointError):
        open_run(tmp_path)


def test_a_started_run_is_not_overwritten_and_not_continued_as_another(
    reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = reference / "whole"
    code, stderr = here(capsys, *command(reference / "pictures", run_dir)[3:])
    assert code == 2
    assert "already holds a run. Add --resume to continue it" in stderr
    code, stderr = here(capsys, *command(reference / "pictures", run_dir, "--resume", method="common")[3:])
    assert code == 2
    assert "was started with other settings: method was stimulative, is now common" in stderr
    code, stderr = here(capsys, *command(reference / "pictures", run_dir, "--resume", "--lambda", "3")[3:])
    assert code == 2
    assert "was started with other settings: weight was 1.0, is now 3.0. Give the old ones" in stderr
    code, stderr = here(capsys, *command(reference / "pictures", run_dir, "--resume", "--learning-rate", "0.5", epochs=8)[3:])
    assert code == 2
    assert stderr.count("\n") == 1
    assert "other settings: epochs was 6, is now 8; learning_rate was 0.02, is now 0.5. Give the old ones" in stderr


def test_a_run_of_before_there_were_some_options_is_resumed(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(reference / "whole", tmp_path, dirs_exist_ok=True)
    asked = json.loads((tmp_path / "run.json").read_text())
    asked["options"] = {"weight": 1.0, "temperature": 1.0, "max_skipped": None, "two_forward": False}
    for key in ("name", "holdout", "images", "started"):
        del asked[key]
    for key in ("train_per_class", "evaluate_every", "watch", "watch_every", "watch_images"):
        del asked["recipe"][key]
    (tmp_path / "run.json").write_text(json.dumps(asked))
    assert open_run(tmp_path).net.topology.network == "resnet20"
    checkpoint.list_paths(tmp_path)[-1].unlink()
    former = [
        "--evaluate-every",
        "1",
        "--watch",
        "--watch-every",
        "1",
    ]  # the fixed values of runs that are older than these options
    code, stderr = here(capsys, *command(reference / "pictures", tmp_path, "--resume", *former)[3:])
    assert code == 0, stderr
    assert final(tmp_path) == final(reference / "whole")


@pytest.mark.slow
def test_one_process_at_a_time_writes_a_run_folder(reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir, pictures = tmp_path / "run", reference / "pictures"
    first = subprocess.Popen(
        command(pictures, run_dir, epochs=500), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not checkpoint.list_paths(run_dir) and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    code, stderr = here(capsys, *command(pictures, run_dir, "--resume", epochs=500)[3:])
    assert code == 2
    assert stderr.count("\n") == 1
    assert f"run is being written by process {first.pid}. Wait until it ends" in stderr
    assert first.poll() is None
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    assert (run_dir / "writer.pid").read_text().strip() == str(first.pid)  # what a killed process leaves holds nobody
    epochs = newest(run_dir)[1].epoch
    with writer_lock(run_dir):
        assert (run_dir / "writer.pid").read_text().strip() == str(os.getpid())
    assert not (run_dir / "writer.pid").exists()
    assert [row["epoch"] for row in training_records(run_dir)][:epochs] == list(range(1, epochs + 1))


def with_default_interrupt() -> None:
    """Let SIGINT end the child: it inherits that the signal is ignored when a shell runs the tests in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_ends_with_130_and_what_was_finished_is_kept(reference: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = subprocess.Popen(
        command(reference / "pictures", run_dir, epochs=500),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=with_default_interrupt,
    )
    deadline = time.monotonic() + 60
    while not checkpoint.list_paths(run_dir) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "stopped by Ctrl-C; what was finished is kept.\n"
    assert checkpoint.newest(run_dir) is not None
