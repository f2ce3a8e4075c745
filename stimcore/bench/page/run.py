"""A run in progress without a training: the record of a committed run, played into a run folder line by line.

A training beside the measurement would take the cores on which the pages are measured.
"""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stimcore import files

EPOCH_S = 5.0
"""Seconds between two epochs, as long as one of ResNet-20 on 5,000 images takes on two cores."""


@contextmanager
def run_in_progress(record: Path, folder: Path, epoch_s: float = EPOCH_S) -> Iterator[None]:
    """Play a record until the block ends; the run folder is gone afterwards.

    Args:
        record: `training.jsonl` of a finished run.
        folder: The run folder, `RUNS/EXPERIMENT/NAME-SEED`.
        epoch_s: Seconds between two epochs.
    """
    lines = record.read_text(encoding="utf-8").splitlines()
    folder.mkdir(parents=True)
    about = {"method": folder.name.rpartition("-")[0], "network": "resnet20", "recipe": {"epochs": len(lines)}}
    files.write_text(folder / "run.json", json.dumps(about))
    ended = threading.Event()

    def play() -> None:
        # the last epoch never comes: the run would be finished
        for line in lines[:-1]:
            with (folder / "training.jsonl").open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
            if ended.wait(epoch_s):
                return

    player = threading.Thread(target=play, daemon=True)
    player.start()
    try:
        yield
    finally:
        ended.set()
        player.join()
        shutil.rmtree(folder)
