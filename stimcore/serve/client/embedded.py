"""A model server that a program starts for itself: a supervised child process on loopback, with a random port and token.

The listening socket belongs to the parent, and every server process inherits it. While a server that died is replaced,
connections wait in the socket's backlog: clients see a pause and no error, and the address stays the same. Windows starts
processes without the sockets of their parent. There every server process binds the port that was free at the start, and
connections are refused while it is replaced.

The server ends with its parent, however that ends: it watches its standard input, a pipe that the operating system closes when
the parent is gone. Neither `atexit` nor a signal would do, because a killed process runs no code.
"""

import atexit
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from stimcore.errors import Unavailable, UsageError
from stimcore.serve.client.client import Client
from stimcore.serve.tokens import ADMIN_VARIABLE, READ_VARIABLE

INHERITS = hasattr(os, "fork")
"""Whether a process that is started can get an open socket of this one: everywhere but on Windows, which has no fork either."""
STABLE_S = 30.0
"""A server that ran at least this long did not fail to start: its successor starts without a growing pause."""
MIN_PAUSE_S = 0.1
MAX_PAUSE_S = 5.0
"""Pause before a server that failed soon is started again; it doubles from the shortest to the longest."""
READY_TIMEOUT_S = 1.0
"""Time for one answer to the question whether the server is ready."""
PROBE_S = 0.5
"""Time between two questions whether the server is alive."""
REPEAT_S = 0.1
"""The same after a question without an answer."""
PROBE_TIMEOUT_S = 1.0
"""Time for an answer to one of them."""
MISSED_PROBES = 3
"""Questions in a row without an answer after which the server hangs: it is killed and started again."""
END_S = 12
"""Time for a server to drain after its input has closed, before it is killed; longer than its limit `drain_s`."""


class EmbeddedServer:
    """Runs `python -m stimcore.serve` until `stop`, or until this process ends.

    A server that dies is started again, as is one that has answered before and hangs.

    Args:
        folder: Folder of experiments, as `stimcore.export` writes it.
        runs: Folder of run folders.
        arguments: Further arguments of the server's command line.

    Attributes:
        url: Address of the server; it stays the same when the server is replaced.
        token: Token that requests need; other programs on this machine do not know it.
        restarts: Number of times that the server was started again.

    Raises:
        UsageError: There is no such folder.

    Example:
        With bundles under `exported/`::

            server = EmbeddedServer(Path("exported"))
            server.wait_ready()
            print(server.client().catalogue())
            server.stop()
    """

    def __init__(self, folder: Path, *, runs: Path = Path("runs"), arguments: Sequence[str] = ()) -> None:
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}", todo="'python -m stimcore.export' makes one.")
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.token = secrets.token_urlsafe(32)
        self._command = [sys.executable, "-m", "stimcore.serve", str(folder), "--runs", str(runs), *arguments]
        # only this process knows the random token, and it says for which visitor it asks
        self._command += ["--trusted-proxy", "127.0.0.1", "--until-input-closes", "--log-level", "warning"]
        if INHERITS:
            self._address = ["--fd", str(self._socket.fileno())]
        else:
            self._address = ["--port", str(self._socket.getsockname()[1])]
            self._socket.close()  # a port can't be bound twice
        self._ending = threading.Event()
        self.restarts = 0
        self._process = self._start()
        self._supervisor = threading.Thread(target=self._supervise, name="stimcore-server", daemon=True)
        self._supervisor.start()
        atexit.register(self.stop)

    @property
    def pid(self) -> int:
        """Process id of the server that runs now."""
        return self._process.pid

    def client(self, client_id: str | None = None, forwarded_for: str = "") -> Client:
        """Return a client of the server.

        Args:
            client_id: Name under which jobs are watched; a new random one when None.
            forwarded_for: Address of the machine that the requests are made for; empty for this one.
        """
        return Client(self.url, self.token, client_id, forwarded_for=forwarded_for)

    def wait_ready(self, seconds: float = 60.0) -> None:
        """Wait until the server accepts work; stop it if it does not, so that a failed start leaves no process behind.

        Raises:
            Unavailable: The server is not ready after `seconds`, or can't start.
        """
        until = time.monotonic() + seconds
        try:
            with httpx.Client(base_url=self.url, timeout=READY_TIMEOUT_S, trust_env=False) as http:
                while not _ready(http):
                    if not self._supervisor.is_alive():
                        raise Unavailable("the model server can't start", todo="Its log above has the reason.")
                    if time.monotonic() > until:
                        raise Unavailable(f"the model server was not ready after {seconds:g} s", todo="Its log has the reason.")
                    time.sleep(0.05)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and its supervision."""
        if self._ending.is_set():
            return
        self._ending.set()
        _end(self._process)
        self._supervisor.join(timeout=15)
        self._socket.close()
        atexit.unregister(self.stop)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._command, *self._address],
            stdin=subprocess.PIPE,  # closes with this process, which makes the server end
            stdout=subprocess.DEVNULL,
            pass_fds=[self._socket.fileno()] if INHERITS else [],
            env={**_without_tokens(os.environ), "STIMCORE_TOKEN": self.token},
        )

    def _supervise(self) -> None:
        """Wait for the server to end and start another one, until `stop`; runs in a thread."""
        pause = MIN_PAUSE_S
        while not self._ending.is_set():
            started = time.monotonic()
            code = self._wait_for_end()
            if self._process.stdin is not None:
                self._process.stdin.close()
            if code == UsageError.exit_code:
                return  # wrong use: another server would refuse it in the same words
            pause = MIN_PAUSE_S if time.monotonic() - started > STABLE_S else min(MAX_PAUSE_S, 2 * pause)
            if self._ending.wait(pause):
                return
            self._process = self._start()
            self.restarts += 1
            # `stop` may have ended the old process while this one started; it must not stay behind.
            if self._ending.is_set():
                _end(self._process)

    def _wait_for_end(self) -> int:
        """Wait until the server's process has ended, and kill it when it hangs; return its exit code.

        A server that starts answers nobody, for minutes if it has much to hash, so that only one that has answered can hang.
        """
        answered, missed = False, 0
        with httpx.Client(base_url=self.url, timeout=PROBE_TIMEOUT_S, trust_env=False) as http:
            while True:
                try:
                    return self._process.wait(timeout=REPEAT_S if missed else PROBE_S)
                except subprocess.TimeoutExpired:
                    pass
                if self._ending.is_set():
                    return self._process.wait()  # `stop` ends it, and kills it when that takes too long
                if _answers(http, "/v2/health/live"):
                    answered, missed = True, 0
                else:
                    missed += answered
                if missed >= MISSED_PROBES:
                    self._process.kill()
                    return self._process.wait()


def _without_tokens(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the tokens of other servers, with which this one would not start."""
    names = {f"{name}{ending}" for name in (ADMIN_VARIABLE, READ_VARIABLE) for ending in ("", "_FILE")}
    return {name: value for name, value in environment.items() if name not in names}


def _ready(http: httpx.Client) -> bool:
    return _answers(http, "/v2/health/ready")


def _answers(http: httpx.Client, path: str) -> bool:
    """Return whether the server answers a path with 200."""
    try:
        return http.get(path).status_code == 200
    except httpx.TransportError:
        return False  # the socket is open, but no server answers on it


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close a server's input and wait until it has ended; kill it if it does not end."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(timeout=END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
