"""`stimcore app` (`python -m stimcore.dashboard`): start the dashboard, and the model server behind it.

The dashboard is the package `app` in a checkout and `stimcore_app` in an installation, whose wheel holds an experiment as well.
This module only starts Streamlit on it and knows nothing of its pages.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from stimcore import cli
from stimcore.errors import Unavailable, UsageError

EVERY_ADDRESS = "0.0.0.0"
"""Address to listen on for a class: those of all network interfaces."""


def parser() -> cli.Parser:
    """Return the command line; its help text is frozen by a test."""
    line = cli.Parser(prog="stimcore app", description="Start the dashboard in a browser, and the model server behind it.")
    line.add_argument(
        "folder",
        metavar="EXPORTED",
        type=Path,
        nargs="?",
        help="folder of experiments, as stimcore.export writes it (default: the experiments that come with the program)",
    )
    line.add_argument("--runs", type=Path, metavar="DIR", help="run folders to show (default: runs)")
    line.add_argument("--host", metavar="ADDRESS", help="address to listen on (default: this machine alone)")
    line.add_argument("--port", type=int, help="port to listen on (default: 8501, or the next one that is free)")
    line.add_argument(
        "--class",
        dest="for_class",
        action="store_true",
        help="let everybody in this network join, and show them the address (there is no login)",
    )
    line.add_argument("--no-browser", action="store_true", help="open no browser")
    return line


def main(argv: Sequence[str]) -> int:
    """Run the dashboard until it is ended; return its exit code."""
    options = parser().parse_args(argv)
    if options.folder is not None and not options.folder.is_dir():
        raise UsageError(f"there is no folder {options.folder}", todo="'python -m stimcore.export' makes one.")
    if options.port is not None and not 1 <= options.port <= 65535:
        raise UsageError(f"--port {options.port}", allowed="1 to 65535")
    script = find_script()
    if not cli.installed("streamlit"):
        raise Unavailable("the dashboard needs streamlit, which is not installed", todo=cli.install_line("streamlit"))
    if options.for_class and options.host is None:
        options.host = EVERY_ADDRESS
    given = {"STIMCORE_EXPORTED": options.folder, "STIMCORE_RUNS": options.runs}
    variables = {name: str(path.resolve()) for name, path in given.items() if path is not None}
    flags = {"address": options.host, "port": options.port, "headless": "true" if options.no_browser else None}
    words = [sys.executable, "-m", "streamlit", "run", str(script)]
    words += [f"--server.{name}={value}" for name, value in flags.items() if value is not None]
    # a process of its own: Streamlit reads the command line of the program that it is, and handles signals itself
    process = subprocess.Popen(words, env={**os.environ, **variables})
    try:
        return process.wait()
    except KeyboardInterrupt:  # the terminal sends Ctrl-C to both
        process.wait()
        raise
    finally:
        process.terminate()


def find_script() -> Path:
    """Return the program of the dashboard: that of a checkout, else the one that was installed.

    Raises:
        Unavailable: Neither is there.
    """
    checkout = Path(__file__).resolve().parents[1] / "app" / "main.py"
    if checkout.is_file() and (checkout.parents[1] / "pyproject.toml").is_file():
        return checkout
    module_spec = find_spec("stimcore_app")
    if module_spec is None or module_spec.origin is None:
        raise Unavailable("this installation has no dashboard", todo="'pip install' of the project's wheel brings it.")
    return Path(module_spec.origin).with_name("main.py")


if __name__ == "__main__":
    cli.run(main)
