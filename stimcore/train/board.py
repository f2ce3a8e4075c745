"""TensorBoard, for those who have it: the numbers of `training.jsonl` as event files."""

import importlib.util
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stimcore.errors import UsageError


class Board:
    """Writes one point per epoch and number.

    Args:
        folder: Where event files go.

    Raises:
        UsageError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise UsageError(
                "TensorBoard is not installed",
                todo="'pip install tensorboard' installs it; without it, training.jsonl has the same numbers.",
            )
        from torch.utils.tensorboard import SummaryWriter  # can't be imported where it is not installed

        self._writer = SummaryWriter(str(folder))  # type: ignore[no-untyped-call]  # torch has no annotation there

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._writer.close()  # type: ignore[no-untyped-call]  # as above

    def add(self, row: dict[str, Any]) -> None:
        """One epoch's record."""
        values = {f"loss/{name}": value for name, value in row["losses"].items()}
        values |= {name: row[name] for name in ("learning_rate", "images_per_second", "peak_memory_bytes")}
        for part, name in (("test", "accuracy_pct"), ("holdout", "holdout_accuracy_pct")):
            if part in row:
                values[name] = row[part]["accuracy_pct"]
        values |= {f"watched/{watched['name']}": watched["accuracy_pct"] for watched in row.get("watched", [])}
        for name, value in values.items():
            self._writer.add_scalar(name, value, row["epoch"])  # type: ignore[no-untyped-call]  # as above
        self._writer.flush()  # type: ignore[no-untyped-call]  # as above
