"""Real server processes for tests: `python -m stimcore.serve` on a free port, with its log in a file."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil

from stimcore.serve.client.client import Client

AS_OTHERS = {"STIMCORE_WORKER_NICENESS": "0"}
"""Environment in which a worker gets as much of a processor as the other processes that share the tests: with a lower priority
it would wait for their trainings."""
PATIENT = ("call_s=300", "download_s=300", "start_s=300", "hang_s=60")
"""Values of `--limit` under which a slow machine fails no test."""


def in_session(leader: int) -> list[int]:
    """Return the process ids of a session that still run."""
    running = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                running.append(process.pid)
    return running


class Running:
    """A server process, as a context manager that ends it.

    Args:
        folder: Folder of experiments.
        log: File for its log on standard error.
        limits: Values of `--limit`, as `NAME=VALUE`.
        token: Value of STIMCORE_TOKEN; None for none.
        words: Further arguments of the command line.
        variables: Further environment variables.
        wait: Whether to wait until the server is ready.
    """

    def __init__(
        self,
        folder: Path,
        log: Path,
        *,
        limits: Sequence[str] = (),
        token: str | None = None,
        words: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        wait: bool = True,
    ) -> None:
        self.log, self.token = log, token
        # What a test does not limit itself may take long: a machine that starts from cold files, or that other work keeps busy,
        # is no failure. Limits that are given later on the command line replace these.
        given = [word for limit in (*PATIENT, *limits) for word in ("--limit", limit)]
        if "--port" not in words:
            given += ["--port", "0"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("STIMCORE_")}
        environment |= AS_OTHERS | dict(variables or {})
        if token is not None:
            environment["STIMCORE_TOKEN"] = token
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stimcore.serve", str(folder), "--device", "cpu", "--threads", "1", *given, *words],
            stdout=subprocess.PIPE,
            stderr=log.open("w", encoding="utf-8"),
            env=environment,
            text=True,
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        self.url = first.rsplit(" ", 1)[-1].strip()
        assert self.url.startswith("http"), first + log.read_text(encoding="utf-8")
        self.port = int(self.url.rsplit(":", 1)[-1])
        self.metrics_url = ""
        if "--metrics-port" in words:
            self.metrics_url = self.process.stdout.readline().rsplit(" ", 1)[-1].strip()
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)
        if wait:
            self.wait_ready()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def client(self, client_id: str | None = None) -> Client:
        """Return a client of the server."""
        return Client(self.url, self.token, client_id)

    def wait_ready(self, seconds: float = 60.0) -> None:
        """Wait until the server is ready."""
        self.until(lambda: self.http.get("/v2/health/ready").status_code == 200, seconds)

    def until(self, holds: Any, seconds: float = 30.0) -> None:
        """Wait until `holds()` is true; fail with the log if the server ends or the time is over."""
        end = time.monotonic() + seconds
        while not holds():
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
            assert time.monotonic() < end, self.log.read_text(encoding="utf-8")[-3000:]
            time.sleep(0.02)

    def live(self) -> bool:
        """Return whether the server answers."""
        return bool(self.http.get("/v2/health/live").json() == {"live": True})

    def workers(self) -> list[psutil.Process]:
        """Return its worker processes."""
        children: list[psutil.Process] = psutil.Process(self.process.pid).children()
        return children

    def lines(self) -> list[dict[str, Any]]:
        """Return the objects in its log."""
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines() if line.startswith("{")]

    def metric(self, name: str) -> float:
        """Return the sum of a metric's samples."""
        text = self.http.get("/metrics").text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith((name + " ", name + "{")))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the server with a signal; return its exit code."""
        self.http.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.returncode
