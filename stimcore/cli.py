"""What all commands share, and the console script `stimcore` that starts them.

`stimcore train ...` is `python -m stimcore.train ...`. Every command has a `main` that returns its exit code and raises a
`StimcoreError` for everything that a user can get wrong; `run` turns these into an exit code and one sentence.
"""

import io
import json
import os
import runpy
import signal
import sys
from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO, cast

import stimcore
from stimcore import files
from stimcore.errors import StimcoreError

COMMANDS = {
    "app": "start the dashboard, and the model server behind it",
    "train": "train a network into a run folder",
    "data": "look at a folder of pictures before it is trained on",
    "export": "write a run as a bundle of ONNX networks",
    "scan": "find out which blocks a trained network needs",
    "sweep": "evaluate a family of sub-networks of a bundle",
    "serve": "answer requests for the networks of all bundles over HTTP",
    "report": "write the paper's tables and figures from bundles",
    "publish": "write bundles as a web page that needs no server",
    "nets": "list networks and what they are made of",
    "recipes": "list recipes, or print one",
    "experiments": "list the experiments, or run one",
    "convert": "make a run folder of published weights",
    "bundle": "check that bundles are what was exported",
    "bench": "measure speed and memory against baselines",
}
"""Command -> what it does. Texts stand here because asking the commands would import torch."""

MODULES = {"app": "dashboard"}
"""Command -> its module in this package, where that has another name."""
DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: done; something that was checked does not hold; wrong use; stopped by Ctrl-C."""
MAX_SEED = 2**63 - 1
"""The largest seed: what is stored of a run keeps its seed as a whole number of 64 bits, from 0."""


class _Store(Action):
    """Stores the value of an option; one that takes several values is refused the second time.

    The last one counts of an option with one value, as in most programs, so that the options of a wrapper can be replaced. Of a
    list a user may mean both parts, and the first would be ignored without a word. A `Parser` has this action in the place of
    `store`.
    """

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: str | None = None) -> None:
        """Store the value."""
        if isinstance(parser, Parser) and self.option_strings and self.nargs in ("+", "*"):
            first = parser.given.setdefault(id(self), values)
            if first != values:
                parser.error(
                    f"argument {'/'.join(self.option_strings)}: given twice, as {_in_words(first)} and {_in_words(values)}; "
                    f"allowed: once, or all values after one {option_string}"
                )
        setattr(namespace, self.dest, values)


def _in_words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


class Parser(ArgumentParser):
    """An argument parser that refuses in the same form as all other errors, and a list that is given in two parts.

    Attributes:
        given: Number of the action of every option that this command line has so far -> its value.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.given: dict[int, Any] = {}
        for name in (None, "store"):
            self.register("action", name, _Store)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the options, and the words that belong to none of them; as `ArgumentParser` does."""
        self.given.clear()  # a parser can read several command lines
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """End the process with exit code 2 and one sentence."""
        self.exit(USAGE, f"error: {message}. '{self.prog} --help' shows what is allowed.\n")


def installed(package: str) -> bool:
    """Return whether a package can be imported, without importing it."""
    return find_spec(package) is not None


def has_torch() -> bool:
    """Return whether the packages of the training half are installed.

    A command that trains or exports asks before it imports what needs them. `make app` and a plain `pip install` leave torch
    out because it takes many times the space of everything else.
    """
    return installed("torch") and installed("torchvision")


def end_without_torch() -> NoReturn:
    """End the process with exit code 1 and one sentence on what to install."""
    print(f"error: this command needs torch, which is not installed. {install_line('torch')}", file=sys.stderr)
    sys.exit(FAILED)


def install_line(package: str, *, public: bool = False) -> str:
    """Return a sentence with the one line that installs a package, and what else the same commands need.

    Args:
        package: `torch` or `streamlit`, or another package that an extra of the project brings.
        public: Whether visitors of a server read it, who need not know where it is installed.
    """
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "Makefile").is_file() and (checkout / "pyproject.toml").is_file():
        line = "make setup" if package.startswith("torch") else "make app"
        place = "the project's folder" if public else checkout
        return f"Run '{line}' in {place}, or 'python -m pip install -r requirements.txt' there."
    return f'Run: python -m pip install "stimcore[{"train" if package.startswith("torch") else "app"}]"'


def answer_early(parser: Callable[[], ArgumentParser]) -> None:
    """Answer `--help` and wrong options of this process, and end it, before imports that take seconds and much memory.

    A command calls this between its light and its heavy imports, and only as the main module. Ctrl-C during the latter ends the
    process in a sentence; from `run` on it is a `KeyboardInterrupt` again.

    Args:
        parser: Returns the command line of the command.
    """
    _tolerate_narrow_terminals()
    parser().parse_args()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell lets what it runs in the background ignore it
        signal.signal(signal.SIGINT, _end_at_once)


def _end_at_once(_number: int, _frame: FrameType | None) -> None:
    """End the process: nothing is begun that an exception could tidy up, and one in the middle of an import is a traceback."""
    with suppress(OSError):
        # not through `sys.stderr`, which may be in the middle of a line
        os.write(2, b"stopped by Ctrl-C; nothing was begun.\n")
    os._exit(INTERRUPTED)


def _tolerate_narrow_terminals() -> None:
    """Let signs of a class's name that a Windows console can't show be escaped, as they must not end the command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


class _KeepsOn:
    """Standard output of a command that goes on when its reader is gone, as `| head` is after ten lines.

    What the command writes into files must not depend on who reads what it prints. The rest of that goes nowhere.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write as the stream does."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._stop()
            return len(text)
        except OSError as reason:
            raise _naming_output(reason) from reason

    def flush(self) -> None:
        """Flush as the stream does."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._stop()
        except OSError as reason:
            raise _naming_output(reason) from reason

    def _stop(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _naming_output(reason: OSError) -> OSError:
    """Return an error of the system, as that of a full disk under a file that a shell writes, with the name of what failed."""
    return OSError(reason.errno, reason.strerror, "standard output")


@contextmanager
def _keeping_on() -> Iterator[None]:
    """Let the command go on when the reader of its standard output is gone."""
    before = sys.stdout
    if before is None:  # as under pythonw
        yield
        return
    sys.stdout = cast(TextIO, _KeepsOn(before))
    try:
        yield
    finally:
        sys.stdout.flush()  # or Python finds the pipe broken when it ends
        sys.stdout = before


def run(command: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command and end the process with its exit code.

    Args:
        command: Gets the arguments and returns the exit code.
        argv: The arguments; those of this process when None.
    """
    _tolerate_narrow_terminals()
    if signal.getsignal(signal.SIGINT) is _end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with _keeping_on():
            code = command(sys.argv[1:] if argv is None else argv)
    except StimcoreError as reason:
        print(f"error: {reason}", file=sys.stderr)
        code = reason.exit_code
    except KeyboardInterrupt:
        print("stopped by Ctrl-C; what was finished is kept.", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:
        # the reader of our output (`| head`) has what it wanted; a closed stderr keeps Python from complaining at exit
        sys.stderr.close()
        code = DONE
    except OSError as reason:
        if reason.errno is None:  # not from the operating system: a defect, which deserves its traceback
            raise
        where = f" ({reason.filename})" if reason.filename else ""
        print(f"error: {reason.strerror}{where}.", file=sys.stderr)
        code = FAILED
    sys.exit(code)


def add_device(line: ArgumentParser) -> None:
    """Add `--device`, on which a command computes."""
    line.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")


def add_provider(line: ArgumentParser) -> None:
    """Add `--provider`, for a device that onnxruntime reaches under a name of its own."""
    line.add_argument(
        "--provider",
        dest="device",
        metavar="NAME",
        help="another provider of onnxruntime, instead of --device; stimcore vouches for CPU and CUDA only",
    )


def add_data_root(line: ArgumentParser, what: str = "where the data set is") -> None:
    """Add `--data-root`, the folder of a data set that has a name."""
    line.add_argument("--data-root", type=Path, metavar="DIR", help=what)


def add_normalisation(line: ArgumentParser, *, only: str = "", mean: str = "", std: str = "") -> None:
    """Add `--mean` and `--std`, which `stimcore.data.normalise.per_channel` reads.

    Args:
        line: The command line.
        only: What the help text begins with, where not every use of the command takes the options.
        mean: The default for images in colour, for the help text; empty where there is none.
        std: As `mean`.
    """
    for name, what, default in (("mean", "subtracted from", mean), ("std", "divided out of", std)):
        end = f" (default, for colour: {default})" if default else ""
        line.add_argument(f"--{name}", metavar="V,V,V", help=f"{only}per channel, {what} pixels in [0, 1]{end}")


def add_json(line: ArgumentParser, what: str) -> None:
    """Add `--json`, whose value `write_report` takes.

    Args:
        line: The command line.
        what: What the command does, for the help text: `write the results as JSON`.
    """
    line.add_argument("--json", type=_json_target, metavar="FILE", help=f"{what} ('-' for standard output)")


def _json_target(text: str) -> str:
    return text if text == "-" else str(output_file(text))


def output_file(text: str) -> Path:
    """Return the file that a text names, as the type of an option: what can't be written is noticed before the work.

    Folders that are missing are no error: whatever writes the file makes them.

    Raises:
        ArgumentTypeError: It is a folder, or lies in what is no folder or may not be written into.
    """
    path = Path(text)
    with _in_one_sentence(text):
        if path.is_dir():
            raise ArgumentTypeError(f"'{text}' is a folder; allowed: the name of a file")
        _check_place(path)
    return path


def output_folder(text: str) -> Path:
    """Return the folder that a text names, as the type of an option: what can't be made or written is noticed before the work.

    Raises:
        ArgumentTypeError: It is a file, lies in one, or may not be written into.
    """
    path = Path(text)
    with _in_one_sentence(text):
        if path.exists() and not path.is_dir():
            raise ArgumentTypeError(f"'{text}' is a file; allowed: the name of a folder")
        _check_place(path)
    return path


def _check_place(path: Path) -> None:
    """Check that the nearest folder that exists, of those that a path names, may be written into."""
    nearest = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    if nearest == path.absolute() and nearest.is_file():
        nearest = nearest.parent
    if not nearest.is_dir():
        raise ArgumentTypeError(f"'{path}' can't be written: {nearest} is no folder")
    if not os.access(nearest, os.W_OK):
        raise ArgumentTypeError(f"'{path}' can't be written: the folder {nearest} is not writable")


@contextmanager
def _in_one_sentence(text: str) -> Iterator[None]:
    """Turn an error of the system, as a name that is too long, into one of the command line."""
    try:
        yield
    except OSError as reason:
        raise ArgumentTypeError(f"'{text[:100]}' can't be written: {reason.strerror}") from reason


def seed(text: str) -> int:
    """Return the seed that a text names, as the type of an option.

    Raises:
        ArgumentTypeError: The text is no whole number from 0 to `MAX_SEED`.

    Example:
        >>> seed("7")
        7
    """
    # the number of digits is limited before Python converts them, which it refuses for thousands
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_SEED)) and int(text) <= MAX_SEED):
        raise ArgumentTypeError(f"'{text[:40]}' is not a seed; allowed: 0 to {MAX_SEED}")
    return int(text)


def add_quiet(line: ArgumentParser) -> None:
    """Add `--quiet`, which leaves out the progress bar and nothing else."""
    line.add_argument("--quiet", action="store_true", help="show no progress bar")


def write_report(target: str | None, value: Any) -> None:
    """Write a command's results as JSON.

    Args:
        target: The value of `--json`: a file, `-` for standard output, None to write nothing.
        value: Plain JSON types.
    """
    if target == "-":
        print(json.dumps(value, indent=1, allow_nan=False))
    elif target is not None:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        files.write_json(Path(target), value)


def parser() -> Parser:
    """Return the command line of `stimcore` itself."""
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
    line = Parser(
        prog="stimcore",
        description="Stimulative training of residual networks.",
        epilog=f"commands:\n{commands}\n\n'stimcore COMMAND --help' shows the options of a command.",
        formatter_class=RawDescriptionHelpFormatter,
        usage="stimcore [-h] [--version] COMMAND ...",
    )
    line.add_argument("--version", action="version", version=f"stimcore {stimcore.__version__}")
    line.add_argument("command", metavar="COMMAND", choices=COMMANDS, help="one of the commands below")
    return line


def main(argv: Sequence[str] | None = None) -> None:
    """Start a command: `stimcore train ...` does what `python -m stimcore.train ...` does, and ends with its exit code.

    Args:
        argv: The arguments; those of this process when None.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # only the first argument is for this parser: the others belong to the command, also those that begin with a dash
    command = parser().parse_args(arguments[:1]).command
    module = f"stimcore.{MODULES.get(command, command)}"
    sys.argv = [f"python -m {module}", *arguments[1:]]
    # as `python -m` does it, so that worker processes, which import the main module again, find the same one
    runpy.run_module(module, run_name="__main__", alter_sys=True)
