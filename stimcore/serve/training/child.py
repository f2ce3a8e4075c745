"""`python -m stimcore.serve.training.child MODULE ARGUMENT ...`: run a command until it ends or standard input closes.

The server holds the other end of standard input. It closes that end to stop the command, and the operating system closes it
when the server is gone, however it ended: no training outlives its server. The command is interrupted as by Ctrl-C, so that a
training keeps its last finished epoch.
"""

import _thread
import contextlib
import os
import runpy
import sys
import threading
import time

NICENESS = 10
"""Priority of the process: evaluations that a visitor waits for go first."""
STDIN = 0
"""File descriptor of standard input."""
GRACE_S = 15.0
"""Time for the command to end by itself after its input has closed."""


def interrupt_when_input_closes() -> None:
    """Wait until standard input closes, interrupt the main thread, and end the process when that does not help."""
    # not through sys.stdin, whose lock this thread would hold when the interpreter ends
    with contextlib.suppress(OSError):
        while os.read(STDIN, 4096):
            pass
    _thread.interrupt_main()
    time.sleep(GRACE_S)
    os._exit(130)


def main() -> None:
    """Run the module that the command line names, with the other words as its arguments."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    threading.Thread(target=interrupt_when_input_closes, daemon=True).start()
    module, *arguments = sys.argv[1:]
    sys.argv = [f"python -m {module}", *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
