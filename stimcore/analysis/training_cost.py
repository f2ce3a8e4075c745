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
        method_mib: The part of it that came with the training steps: the peak minus what was in use before the first step
            (data set, libraries, weights). None in records of older versions, which do not hold the latter.
        device_type: `cpu` or `cuda`.
        device: Name of the processor or GPU; empty where it is not known.
    """

    epochs: int
    seconds: Estimate
    cpu_seconds: Estimate
    memory_mib: float
    method_mib: float | None = None
    device_type: str = "cpu"
    device: str = ""

    @property
    def time(self) -> Estimate:
        """The time per epoch by which methods compare: processor time on a CPU, wall clock on a GPU.

        On a GPU the processor only launches what the GPU computes.
        """
        return self.cpu_seconds if self.device_type == "cpu" else self.seconds

    @property
    def time_words(self) -> str:
        """What `time` is, in words."""
        return "processor time" if self.device_type == "cpu" else "wall clock"

    def compares_with(self, other: "TrainingCost") -> bool:
        """Return whether both were measured on the same kind of processor or GPU: their ratio says nothing otherwise."""
        return (self.device_type, self.device) == (other.device_type, other.device)


def training_cost(records: Sequence[Mapping[str, Any]], device: str = "") -> TrainingCost | None:
    """Return the cost of a training, None where it left no records.

    Args:
        records: Lines of `training.jsonl`.
        device: Name of the processor or GPU; empty where it is not known.

    Example:
        >>> record = {"seconds": 12.0, "cpu_seconds": 10.0, "peak_memory_bytes": 2**30}
        >>> cost = training_cost([record, {**record, "cpu_seconds": 11.0}])
        >>> cost.cpu_seconds.value, cost.cpu_seconds.high, cost.memory_mib
        (10.5, 11.0, 1024.0)
    """
    if not records:
        return None
    peaks = [record["peak_memory_bytes"] for record in records]
    # A resumed run starts with another amount in use, so each epoch's peak belongs to its own start.
    shares = [
        record["peak_memory_bytes"] - record["start_memory_bytes"] for record in records if "start_memory_bytes" in record
    ]
    return TrainingCost(
        len(records),
        _median(records, "seconds"),
        _median(records, "cpu_seconds"),
        max(peaks) / 2**20,
        max(shares) / 2**20 if len(shares) == len(peaks) else None,
        str(records[-1].get("device_type", "cpu")),
        device,
    )


def memory_ratio(cost: TrainingCost, base: TrainingCost) -> tuple[float, bool]:
    """Return the memory of a training over that of another one, and whether both are of the training steps alone.

    Where older records hold only the memory of the whole process, the ratio is of that; it is nearer to 1.

    Example:
        >>> record = {"seconds": 12.0, "cpu_seconds": 10.0, "peak_memory_bytes": 3 * 2**30, "start_memory_bytes": 2**30}
        >>> larger = {**record, "peak_memory_bytes": 4 * 2**30}
        >>> memory_ratio(training_cost([larger]), training_cost([record]))
        (1.5, True)
    """
    if cost.method_mib is not None and base.method_mib:
        return cost.method_mib / base.method_mib, True
    return cost.memory_mib / base.memory_mib, False


def _median(records: Sequence[Mapping[str, Any]], key: str) -> Estimate:
    values = [float(record[key]) for record in records]
    return Estimate(statistics.median(values), min(values), max(values))
