"""The machine: devices by name, and what is recorded of it."""

import sys

import pytest
import torch

from stimcore.errors import UsageError
from stimcore.runs.machine import describe, memory_bytes, peak_memory_bytes, pick_device, reset_peak_memory

CPU = torch.device("cpu")


def test_devices_by_name() -> None:
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["tpu", "nonsense", "meta", "cuda:99"])
def test_devices_that_this_machine_lacks_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="allowed: .*cpu"):
        pick_device(name)


def test_the_description_has_what_measured_numbers_depend_on() -> None:
    machine = describe(CPU)
    assert set(machine) == {"device", "cores", "threads", "python", "torch", "commit"}
    assert machine["threads"] == torch.get_num_threads()
    assert machine["torch"] == torch.__version__


LARGE = 256 * 2**20
"""Bytes of a block that no allocator keeps when it is freed."""


def touched() -> torch.Tensor:
    """Return a block of `LARGE` bytes that are written, and so resident."""
    return torch.ones(LARGE // 4)


def test_the_peak_contains_what_was_freed_again() -> None:
    before = memory_bytes(CPU)
    assert touched().nbytes == LARGE
    assert peak_memory_bytes(CPU) >= before + LARGE // 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset the peak of a process")
def test_the_peak_is_reset() -> None:
    assert touched().nbytes == LARGE
    before = peak_memory_bytes(CPU)
    reset_peak_memory(CPU)
    assert peak_memory_bytes(CPU) <= max(before - LARGE // 2, memory_bytes(CPU) + LARGE // 2)
