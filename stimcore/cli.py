"""What all commands share: exit codes, one sentence for what went wrong, JSON output."""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from stimcore import files
from stimcore.errors import StimcoreError


class Parser(ArgumentParser):
    """argparse whose refusals look like ours."""

    def error(self, message: str) -> NoReturn:
        """Exit code 2 with one sentence."""
        self.exit(2, f"error: {message}. '{self.prog} --help' shows what is allowed.\n")


def run(command: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and ends the process with its exit code.

    0 done, 1 something it checked does not hold, 2 wrong use, 130 stopped by Ctrl-C.
    """
    try:
        code = command(sys.argv[1:] if argv is None else argv)
    except StimcoreError as reason:
        print(f"error: {reason}", file=sys.stderr)
        code = reason.exit_code
    except KeyboardInterrupt:
        print("stopped by Ctrl-C; what was finished is kept.", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except OSError as reason:
        if reason.errno is None:
            raise
        where = f" ({reason.filename})" if reason.filename else ""
        print(f"error: {reason.strerror}{where}.", file=sys.stderr)
        code = 1
    sys.exit(code)


def write_report(target: str | None, value: Any) -> None:
    """Writes a command's numbers where `--json` says: a file, `-` for standard output, nowhere when None."""
    if target == "-":
        print(json.dumps(value, indent=1, allow_nan=False))
    elif target is not None:
        files.write_json(Path(target), value)
