"""The machine: devices by name, and what is recorded of it."""

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


def test_the_peak_is_at_least_what_is_in_use() -> None:
    reset_peak_memory(CPU)
    before = memory_bytes(CPU)
    block = torch.ones(256 * 2**20 // 4)  # 256 MiB that are written, and so resident
    assert peak_memory_bytes(CPU) >= before + block.nbytes // 2
