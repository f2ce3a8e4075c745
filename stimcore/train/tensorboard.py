"""TensorBoard event files with the numbers of `training.jsonl`, where TensorBoard is installed."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stimcore.errors import UsageError


class TensorBoardWriter:
    """Writes one point per epoch and number; use it as a context manager.

    Args:
        folder: Folder for the event files.

    Raises:
        UsageError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise UsageError(
                "TensorBoard is not installed",
                todo="'pip install tensorboard' installs it; without it, training.jsonl has the same numbers.",
            )
        from torch.utils.tensorboard import SummaryWriter  # its import fails where TensorBoard is not installed

        self._writer = SummaryWriter(str(folder))  # type: ignore[no-untyped-call]  # torch has no annotation there

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._writer.close()  # type: ignore[no-untyped-call]  # as above

    def add(self, record: Mapping[str, Any]) -> None:
        """Write the record of a finished epoch."""
        values = {f"loss/{name}": value for name, value in record["losses"].items()}
        values |= {name: record[name] for name in ("learning_rate", "images_per_second", "peak_memory_bytes")}
        for part, name in (("test", "accuracy_pct"), ("holdout", "holdout_accuracy_pct")):
            if part in record:
                values[name] = record[part]["accuracy_pct"]
        values |= {f"watched/{watched['name']}": watched["accuracy_pct"] for watched in record.get("watched", [])}
        for name, value in values.items():
            self._writer.add_scalar(name, value, record["epoch"])  # type: ignore[no-untyped-call]  # as above
        self._writer.flush()  # type: ignore[no-untyped-call]  # as above
