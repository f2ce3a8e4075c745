"""The cost of a training from records made by hand."""

from stimcore.analysis.estimates import Estimate
from stimcore.analysis.training_cost import TrainingCost, memory_ratio, training_cost
from tests.analysis.made import record


def test_times_are_medians_and_memory_is_the_peak() -> None:
    cost = training_cost([record(1, 12, 10, 800), record(2, 10, 9, 900), record(3, 30, 9.5, 900)])
    assert cost is not None
    assert (cost.epochs, cost.memory_mib) == (3, 900.0)
    assert cost.seconds == Estimate(12, 10, 30)
    assert cost.cpu_seconds == Estimate(9.5, 9, 10)


def test_methods_compare_by_processor_time_on_a_cpu_and_by_the_clock_on_a_gpu() -> None:
    """On a GPU the processor only launches kernels: its time says nothing."""
    rows = [record(1, 12, 10, 800), record(2, 10, 9, 900)]
    on_cpu, on_gpu = (training_cost([{**row, "device_type": device} for row in rows]) for device in ("cpu", "cuda"))
    assert on_cpu is not None
    assert on_gpu is not None
    assert (on_cpu.time, on_cpu.time_words) == (on_cpu.cpu_seconds, "processor time")
    assert (on_gpu.time, on_gpu.time_words) == (on_gpu.seconds, "wall clock")


def test_memory_of_a_method_is_above_what_was_in_use_before() -> None:
    def cost(*peaks_and_starts: tuple[int, int]) -> TrainingCost:
        rows = [{**record(1, 1, 1, peak), "start_memory_bytes": start * 2**20} for peak, start in peaks_and_starts]
        made = training_cost(rows)
        assert made is not None
        return made

    common = cost((900, 700), (920, 700), (1120, 940))  # the last epoch ran after a resumption, which used more at its start
    assert common.method_mib == 220
    assert memory_ratio(cost((1030, 700)), common) == (1.5, True)
    old = training_cost([record(1, 1, 1, 1120)])
    assert old is not None
    assert memory_ratio(old, common) == (1.0, False)


def test_without_records_there_is_no_cost() -> None:
    assert training_cost([]) is None
