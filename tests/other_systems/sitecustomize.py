"""Takes away what only Linux, or only POSIX, has; Python imports this module first when its folder is in PYTHONPATH.

Commands that run under it show that nothing on their way needs these modules and functions: macOS has no affinity and no /proc,
Windows has none of the rest either. `sys.platform` and `os.name` stay as they are, since Python's own library would break.
The libraries that we use choose by these two, so that everything is only taken from our own code.
"""

import asyncio
import builtins
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = str(Path(__file__).resolve().parents[2])
OURS = (f"{ROOT}/stimcore/", f"{ROOT}/app/")
MODULES = {"crypt", "fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty", "posix", "spwd", "readline"}
OF_OS = """
O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK WNOHANG chown chroot fchdir fchmod fchown fdatasync fork forkpty
getegid geteuid getgid getloadavg getpgid getpgrp getpriority getsid getuid killpg lchown memfd_create mkfifo
nice pipe2 posix_fadvise posix_fallocate posix_spawn posix_spawnp pread preadv pwrite pwritev
sched_getaffinity sched_setaffinity sendfile setpgid setpriority setsid setuid splice statvfs sync sysconf
uname wait3 wait4
"""
OF_SIGNAL = """
SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGUSR1 SIGUSR2 alarm pause pthread_kill setitimer
"""
OF_SOCKET = "AF_UNIX SO_REUSEPORT recv_fds send_fds sethostname"
FOLDERS = ("/dev/nvidia", "/proc/", "/sys/")


def ours(*between: str, depth: int = 2) -> bool:
    """Whether code of the project called the function that asks, directly or by way of some modules."""
    frame: Any = sys._getframe(depth)
    while frame is not None and any(name in frame.f_code.co_filename for name in between):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(OURS)


def importing(plain: Callable[..., ModuleType]) -> Callable[..., ModuleType]:
    """Return `__import__` that finds none of the modules when our own code asks, though another has imported them."""

    def find(name: str, *arguments: Any, **options: Any) -> ModuleType:
        if name in MODULES and ours("importlib"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return plain(name, *arguments, **options)

    return find


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse to open a file of Linux to our own code."""
    if event == "open" and str(arguments[0]).startswith(FOLDERS) and ours("pathlib"):
        raise FileNotFoundError(2, "No such file or directory", arguments[0])


class Popen(subprocess.Popen[Any]):
    """`subprocess.Popen` that refuses what Windows does."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        unknown = {"pass_fds", "preexec_fn", "start_new_session", "process_group", "umask", "user", "group"}
        if ours("subprocess.py") and (used := sorted(name for name in unknown & set(options) if options[name])):
            raise ValueError(f"{', '.join(used)} is not supported on Windows platforms")
        super().__init__(*arguments, **options)


def hiding(module: ModuleType, names: str) -> None:
    """Make our own code find none of some names in a module."""

    class Hiding(ModuleType):
        def __getattribute__(self, name: str) -> Any:
            if name in hidden and ours():
                raise AttributeError(f"module '{module.__name__}' has no attribute '{name}'")
            return super().__getattribute__(name)

    hidden = frozenset(names.split())
    module.__class__ = Hiding


def refusing(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of the event loop that is none when our own code calls it."""

    def refuse(*arguments: Any, **options: Any) -> Any:
        if ours():
            raise NotImplementedError
        return method(*arguments, **options)

    return refuse


def take_away() -> None:
    """Hide everything."""
    builtins.__import__ = importing(builtins.__import__)
    sys.addaudithook(watch)
    subprocess.Popen = Popen  # type: ignore[misc]  # what the whole process shall use
    for name in ("add_signal_handler", "remove_signal_handler", "connect_read_pipe", "connect_write_pipe"):
        setattr(asyncio.SelectorEventLoop, name, refusing(getattr(asyncio.SelectorEventLoop, name)))
    hiding(signal, OF_SIGNAL)
    hiding(socket, OF_SOCKET)
    hiding(os, OF_OS)


take_away()
