"""The configuration of a worker process."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self
from urllib.parse import urlsplit

from stimcore.engine.budget import Budget
from stimcore.errors import UsageError
from stimcore.serve.tokens import ENGINE_TOKEN_VARIABLE, is_sendable

LOCAL_ENGINE = "onnxruntime"
"""The engine that runs networks in the worker itself; any other engine is an inference server."""
ENGINE_SCHEMES = {"triton": "http", "triton+https": "https"}
"""Scheme of an inference server's address -> scheme of its requests."""
WORKING_BYTES = 256 << 20
"""Memory for the activations of the images under evaluation, in each engine."""
UNIT_STEPS = 4
"""Largest number of parts in one ONNX graph.

A dropped job ends when the graph that runs has ended, and whatever comes next waits for that. Small graphs keep this short.
"""

NICENESS_VARIABLE, NICENESS = "STIMCORE_WORKER_NICENESS", 10
"""Environment variable and default of what is added to the niceness of a worker: on a processor that networks keep busy, front
and dashboard still answer at once."""
MAX_NICENESS = 19


def read_niceness(environment: Mapping[str, str]) -> int:
    """Return what is added to the niceness of workers; Windows only knows a lower priority, whatever the number.

    Raises:
        UsageError: The variable is not a whole number from 0 to 19.

    Example:
        >>> read_niceness({}), read_niceness({"STIMCORE_WORKER_NICENESS": "0"})
        (10, 0)
    """
    text = environment.get(NICENESS_VARIABLE, "") or str(NICENESS)
    if not (text.isdecimal() and len(text) <= 2 and int(text) <= MAX_NICENESS):
        raise UsageError(f"{NICENESS_VARIABLE}={text[:40]}", allowed=f"whole numbers from 0 to {MAX_NICENESS}")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What one worker process may use.

    Attributes:
        device: `auto`, `cpu` or `cuda:N`.
        threads: Threads that compute at once, on a CPU.
        engines: Bundles that are kept open at most.
        keep_bytes: Memory for cached statistics, activations and sessions of all open bundles together.
        niceness: Added to the niceness of the process.
        url: `http://HOST:PORT`, or https, of the inference server that runs the networks; None when the worker runs them.

    Example:
        >>> config = WorkerConfig(device="cpu", threads=2, engines=6, keep_bytes=6 << 30, url=None)
        >>> WorkerConfig.from_json(config.to_json()) == config
        True
    """

    device: str
    threads: int
    engines: int
    keep_bytes: int
    niceness: int = NICENESS
    url: str | None = None

    def to_json(self) -> str:
        """Return the configuration as the argument of a worker's command line; `from_json` reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the configuration that `to_json` wrote."""
        return cls(**json.loads(text))

    def budget(self, num_open: int) -> Budget:
        """Return the memory budget of each engine when `num_open` bundles are open: all of them share `keep_bytes` equally.

        Sessions get the largest part, three eighths, because each of them holds a copy of its weights.
        """
        share = self.keep_bytes // num_open
        return Budget(
            working=WORKING_BYTES,
            statistics=share // 8,
            calibration=share // 6,
            evaluation=share // 4,
            sessions=3 * share // 8,
            unit_steps=UNIT_STEPS,
        )


def engine_token(environment: Mapping[str, str]) -> str | None:
    """Return the token of the inference server; None where it asks for none.

    Args:
        environment: Environment variables.

    Raises:
        UsageError: No header can carry it.
    """
    token = environment.get(ENGINE_TOKEN_VARIABLE) or None
    if token and not is_sendable(token):
        raise UsageError(
            f"{ENGINE_TOKEN_VARIABLE} holds white space or characters outside of ASCII", allowed="printable ASCII characters"
        )
    return token


def engine_url(engine: str) -> str | None:
    """Return `http://HOST:PORT` for `triton://HOST:PORT`, `https` for `triton+https`, None for `onnxruntime`.

    Raises:
        UsageError: There is no such engine.

    Example:
        >>> engine_url("triton://gpu-box:8000"), engine_url("triton+https://gpu-box:443"), engine_url("onnxruntime")
        ('http://gpu-box:8000', 'https://gpu-box:443', None)
    """
    if engine == LOCAL_ENGINE:
        return None
    try:
        parts = urlsplit(engine)
        valid = parts.scheme in ENGINE_SCHEMES and parts.hostname and parts.port
        valid = valid and not (parts.path or parts.query or parts.username)
    except ValueError:
        valid = False
    if not valid:
        raise UsageError(
            f"there is no engine '{engine[:80]}'", allowed=f"{LOCAL_ENGINE}, triton://HOST:PORT, triton+https://HOST:PORT"
        )
    return f"{ENGINE_SCHEMES[parts.scheme]}://{parts.netloc}"
