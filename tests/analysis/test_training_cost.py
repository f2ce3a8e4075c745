"""The cost of a training from records made by hand."""

from stimcore.analysis.estimates import Estimate
from stimcore.analysis.training_cost import training_cost
from tests.analysis.made import record


def test_times_are_medians_and_memory_is_the_peak() -> None:
    cost = training_cost([record(1, 12, 10, 800), record(2, 10, 9, 900), record(3, 30, 9.5, 900)])
    assert cost is not None
    assert (cost.epochs, cost.memory_mib) == (3, 900.0)
    assert cost.seconds == Estimate(12, 10, 30)
    assert cost.cpu_seconds == Estimate(9.5, 9, 10)


def test_without_records_there_is_no_cost() -> None:
    assert training_cost([]) is None
