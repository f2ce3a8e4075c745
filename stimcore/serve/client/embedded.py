"""A server of one's own: a supervised child process on loopback, with a random port and token, that ends with its parent.

The listening socket belongs to the parent. A server that is replaced takes it over, so its clients see a pause, no error.
"""

import atexit
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from stimcore.errors import Unavailable, UsageError
from stimcore.serve.client.client import Client

STABLE_S = 30.0
"""A server that ran so long did not fail to start: the next one is started at once."""
BACKOFF_S = 5.0
READY_S = 1.0
"""How long one question whether it is ready may take."""


class Embedded:
    """Starts `python -m stimcore.serve` and keeps it running until `stop`, or until this process ends however it does.

    Args:
        folder: `exported`.
        runs: Folder of run folders.
        arguments: Further words of its command line.

    Raises:
        UsageError: There is no such folder.
    """

    def __init__(self, folder: Path, *, runs: Path = Path("runs"), arguments: Sequence[str] = ()) -> None:
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}", todo="'python -m stimcore.export' makes one.")
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.token = secrets.token_urlsafe(32)
        self._words = [sys.executable, "-m", "stimcore.serve", str(folder), "--runs", str(runs), *arguments]
        self._words += ["--fd", str(self._socket.fileno()), "--until-input-closes", "--log-level", "warning"]
        self._ending = threading.Event()
        self.restarts = 0
        self._process = self._start()
        self._keeper = threading.Thread(target=self._keep, name="stimcore-server", daemon=True)
        self._keeper.start()
        atexit.register(self.stop)

    @property
    def pid(self) -> int:
        """Of the server process that runs now."""
        return self._process.pid

    def client(self, client_id: str | None = None) -> Client:
        """A client of it."""
        return Client(self.url, self.token, client_id)

    def wait_ready(self, seconds: float = 60.0) -> None:
        """Waits until it takes work; ends it when it does not, so that a start that failed leaves no process behind.

        Raises:
            Unavailable: It did not by then, or never will.
        """
        until = time.monotonic() + seconds
        try:
            with httpx.Client(base_url=self.url, timeout=READY_S, trust_env=False) as http:
                while not _ready(http):
                    if not self._keeper.is_alive():
                        raise Unavailable("the model server can't start", todo="Its log, above, says why.")
                    if time.monotonic() > until:
                        raise Unavailable(f"the model server was not ready after {seconds:g} s", todo="Its log says why.")
                    time.sleep(0.05)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends it."""
        if self._ending.is_set():
            return
        self._ending.set()
        _end(self._process)
        self._keeper.join(timeout=15)
        self._socket.close()
        atexit.unregister(self.stop)

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._words,
            stdin=subprocess.PIPE,  # closes with this process, also when it is killed: the child's sign to end
            stdout=subprocess.DEVNULL,
            pass_fds=[self._socket.fileno()],
            env={**os.environ, "STIMCORE_TOKEN": self.token},
        )

    def _keep(self) -> None:
        pause = 0.1
        while not self._ending.is_set():
            started = time.monotonic()
            code = self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            if code == UsageError.exit_code:
                return  # another one would refuse in the same words
            pause = 0.1 if time.monotonic() - started > STABLE_S else min(BACKOFF_S, 2 * pause)
            if self._ending.wait(pause):
                return
            self._process = self._start()
            self.restarts += 1
            if self._ending.is_set():
                _end(self._process)


def _ready(http: httpx.Client) -> bool:
    try:
        return http.get("/v2/health/ready").status_code == 200
    except httpx.TransportError:
        return False  # nobody answers on the socket, which is ours, while a server starts


def _end(process: subprocess.Popen[bytes]) -> None:
    """Closes a server's input, and waits; ends it the hard way when it does not go."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(timeout=12)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
