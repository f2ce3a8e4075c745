"""The configuration of a worker: the priority that an operator chooses for it."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stimcore.errors import UsageError
from stimcore.serve.service import Service, ServiceConfig
from stimcore.serve.workers.config import NICENESS, WorkerConfig, read_niceness

CONFIG = WorkerConfig(device="cpu", threads=1, engines=1, keep_bytes=1 << 20)


@pytest.mark.parametrize("text", ["-1", "20", "1.5", "low", "²", "9" * 5000])
def test_a_niceness_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"STIMCORE_WORKER_NICENESS={text[:40]}; allowed: whole numbers from 0 to 19"):
        read_niceness({"STIMCORE_WORKER_NICENESS": text})


def test_the_niceness_reaches_every_worker() -> None:
    assert read_niceness({}) == read_niceness({"STIMCORE_WORKER_NICENESS": ""}) == NICENESS
    for niceness in (0, 19):
        assert read_niceness({"STIMCORE_WORKER_NICENESS": str(niceness)}) == niceness
        service = Service(ServiceConfig(devices=("cpu", "cpu"), folder=Path(), niceness=niceness))
        assert {handle.config.niceness for handle in service.pool.workers} == {niceness}


@pytest.mark.skipif(not hasattr(os, "nice"), reason="Windows has classes of priority instead of niceness")
@pytest.mark.parametrize("niceness", [0, 3])
def test_a_worker_takes_its_niceness(niceness: int) -> None:
    """Asked of a process that ends where the worker would begin to work."""
    program = (
        "import os, sys\n"
        "from stimcore.serve.workers import process\n"
        "before = os.nice(0)\n"
        "process.Worker = lambda out, config: (print(os.nice(0) - before, file=sys.stderr), os._exit(0))\n"
        "process.main(sys.argv[1:])\n"
    )
    config = dataclasses.replace(CONFIG, niceness=niceness).to_json()
    assert json.loads(config)["niceness"] == niceness
    done = subprocess.run([sys.executable, "-c", program, config], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stderr, done.returncode) == (f"{niceness}\n", 0)
