"""The sums of the benchmark of the model server, and its refusals; `bench gpu` runs it as a whole."""

import sys
from pathlib import Path

import pytest

from stimcore.bench import mlserver, serve
from stimcore.bench.serve import LOADS, Target
from stimcore.errors import UsageError


def test_ratios_are_medians_of_turns_and_leave_out_what_was_not_measured() -> None:
    values = {"http_batch1": [2.0, 9.0, 3.0], "bare_batch1": [1.0, 3.0, 2.0], "http_json1": [1.0], "mlserver_json1": [4.0]}
    assert serve._ratios(values) == {"batch1_over_bare": 2.0, "json1_over_mlserver": 0.25}
    assert serve._ratios({"http_batch1": [0.0], "bare_batch1": [0.0]}) == {}  # too short for the clock of processor time


def test_a_server_without_binary_tensors_gets_json_alone() -> None:
    target = Target(port=1, path="/", headers={}, pid=1, binary=False)
    assert [name for name, load in LOADS.items() if target.takes(load)] == ["json1", "json32", "json_clients8"]


@pytest.mark.parametrize(
    ("python", "reason"), [("/nowhere/python", "can't be started"), (sys.executable, "No module named 'mlserver'")]
)
def test_an_environment_without_mlserver_is_refused_in_one_sentence(python: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as refused:
        mlserver.version(Path(python))
    assert len(str(refused.value).splitlines()) == 1


def test_the_model_of_mlserver_is_a_program() -> None:
    compile(mlserver.MODEL, "served.py", "exec")
