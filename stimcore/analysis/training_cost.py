"""What a training took, from the records of its epochs (Table r4)."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stimcore.analysis.estimates import Estimate


@dataclass(frozen=True)
class TrainingCost:
    """Time and memory of a training.

    Attributes:
        epochs: Number of epochs behind the numbers.
        seconds: Wall clock per epoch: median, smallest, largest. Evaluation is not included.
        cpu_seconds: Processor time per epoch: median, smallest, largest. Other work on the machine lengthens it less than it
            lengthens the wall clock.
        memory_mib: Peak memory in MiB: what was allocated on a GPU, the resident memory of the whole process on a CPU.
    """

    epochs: int
    seconds: Estimate
    cpu_seconds: Estimate
    memory_mib: float


def training_cost(records: Sequence[Mapping[str, Any]]) -> TrainingCost | None:
    """Return the cost of a training, None where it left no records.

    Args:
        records: Lines of `training.jsonl`.

    Example:
        >>> record = {"seconds": 12.0, "cpu_seconds": 10.0, "peak_memory_bytes": 2**30}
        >>> cost = training_cost([record, {**record, "cpu_seconds": 11.0}])
        >>> cost.cpu_seconds, cost.memory_mib
        (Estimate(value=10.5, low=10.0, high=11.0), 1024.0)
    """
    if not records:
        return None
    memory = max(record["peak_memory_bytes"] for record in records) / 2**20
    return TrainingCost(len(records), _median(records, "seconds"), _median(records, "cpu_seconds"), memory)


def _median(records: Sequence[Mapping[str, Any]], key: str) -> Estimate:
    values = [float(record[key]) for record in records]
    return Estimate(statistics.median(values), min(values), max(values))
