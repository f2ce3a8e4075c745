"""The console script: the same commands as `python -m stimcore.COMMAND`, and a help text that imports nothing heavy."""

import json
import os
import subprocess
import sys
import tomllib
from argparse import ArgumentError, ArgumentTypeError
from pathlib import Path

import pytest

import stimcore
from stimcore import cli
from stimcore.errors import BundleError, SpecError, UsageError
from tests.test_help import MODULES, parsers

ROOT = Path(__file__).parents[1]


def console(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What the installed script runs."""
    code = "import sys; from stimcore.cli import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def module(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"stimcore.{name}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_script_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"stimcore": "stimcore.cli:main"}


def test_every_command_is_listed_and_can_be_started() -> None:
    commands = {path.parent.name for path in (ROOT / "stimcore").glob("*/__main__.py")} | {"app", "convert"}
    assert set(cli.COMMANDS) == commands
    for name in commands - {"app", "convert"}:
        assert "def main(argv: Sequence[str]) -> int:" in (ROOT / "stimcore" / name / "__main__.py").read_text(encoding="utf-8")


def test_help_lists_the_commands_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom stimcore import cli\n"
        "try:\n    cli.main(['--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'numpy', 'fastapi', 'plotly', 'streamlit'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, text in cli.COMMANDS.items():
        assert [line.split(maxsplit=1) for line in done.stdout.splitlines()].count([name, text]) == 1


def test_version() -> None:
    assert console("--version").stdout == f"stimcore {stimcore.__version__}\n"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("recipes", ["--help"]),
        ("recipes", ["nothing"]),
        ("bundle", ["verify", "nowhere"]),
        ("bundle", []),
        ("sweep", ["nowhere", "--kind", "delete"]),
    ],
)
def test_a_command_does_what_its_module_does(name: str, arguments: list[str]) -> None:
    ours, theirs = console(name, *arguments), module(name, *arguments)
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


@pytest.mark.parametrize(("arguments", "text"), [(["sweeps"], "invalid choice: 'sweeps'"), ([], "required: COMMAND")])
def test_wrong_use_ends_with_a_sentence(arguments: list[str], text: str) -> None:
    done = console(*arguments)
    assert done.returncode == 2
    assert text in done.stderr
    assert done.stderr.endswith("'stimcore --help' shows what is allowed.\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--spec", "A", "B", "--spec", "C"],
            "argument --spec: given twice, as A B and C; allowed: once, or all values after one --spec.",
        ),
        (["--spec", "A", "--spec"], "argument --spec: expected at least one argument"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_list_in_two_parts_is_refused(
    arguments: list[str], sentence: str, nested: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = cli.Parser(prog="example")
    line = whole.add_subparsers().add_parser("inner") if nested else whole
    line.add_argument("--seed", type=cli.seed, action="store")
    line.add_argument("--spec", nargs="+")
    line.add_argument("--option", action="append")
    cli.add_json(line, "write")
    words = ["inner"] if nested else []
    with pytest.raises(SystemExit) as end:
        whole.parse_args([*words, *arguments])
    assert end.value.code == 2
    assert f"error: {sentence}" in capsys.readouterr().err
    for seed in ("3", "4"):  # the last of single values counts, and the next command line begins anew
        options = whole.parse_args(
            [*words, "--seed", "1", "--spec", seed, "--option", "a", f"--seed={seed}", "--option", "b", "--spec", seed]
        )
        assert (options.seed, options.option) == (int(seed), ["a", "b"])


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (SpecError("block 4 can't be deleted"), 2, "error: block 4 can't be deleted.\n"),
        (BundleError("a is missing", todo="Export again."), 1, "error: a is missing. Export again.\n"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C; what was finished is kept.\n"),
        (FileNotFoundError(2, "No such file or directory", "x"), 1, "error: No such file or directory (x).\n"),
    ],
)
def test_errors_become_exit_codes(error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    def command(_: object) -> int:
        raise error

    with pytest.raises(SystemExit) as end:
        cli.run(command, [])
    assert end.value.code == code
    assert capsys.readouterr().err == text


INTERRUPTED = """
import signal, sys
from stimcore import cli

def command(argv):
    signal.raise_signal(signal.SIGINT)
    return 0

signal.signal(signal.SIGINT, getattr(signal, sys.argv[1]))
sys.argv = sys.argv[:1]
cli.answer_early(lambda: cli.Parser(prog="example"))
{between}
cli.run(command, [])
"""


@pytest.mark.parametrize(
    ("handler", "between", "code", "text"),
    [
        ("default_int_handler", "signal.raise_signal(signal.SIGINT)", 130, "stopped by Ctrl-C; nothing was begun.\n"),
        ("default_int_handler", "", 130, "stopped by Ctrl-C; what was finished is kept.\n"),
        ("SIG_IGN", "signal.raise_signal(signal.SIGINT)", 0, ""),
    ],
)
def test_ctrl_c_is_one_sentence_while_a_command_imports(handler: str, between: str, code: int, text: str) -> None:
    words = [sys.executable, "-c", INTERRUPTED.format(between=between), handler]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, text)


PRINTS_AND_WRITES = """
import sys
from pathlib import Path
from stimcore import cli

def command(argv):
    for number in range(20_000):
        print(number)
    Path(argv[0]).write_text("everything")
    print("done", flush=True)
    return 3

cli.run(command)
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.skipif(sys.platform == "win32", reason="there is no head")
def test_files_are_written_when_nobody_reads_what_is_printed(unbuffered: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    command = subprocess.Popen(
        [sys.executable, "-c", PRINTS_AND_WRITES, str(tmp_path / "file")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert command.stdout is not None
    assert command.stderr is not None
    assert command.stdout.readline() == "0\n"
    command.stdout.close()
    assert (command.stderr.read(), command.wait(60)) == ("", 3)
    command.stderr.close()
    assert (tmp_path / "file").read_text() == "everything"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("flush", [True, False])
def test_output_that_cannot_be_written_is_named(flush: bool) -> None:
    code = f"from stimcore import cli\ncli.run(lambda argv: print('done', flush={flush}) or 0)"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, "error: No space left on device (standard output).\n")


def test_a_defect_keeps_its_traceback() -> None:
    def command(_: object) -> int:
        raise OSError("not from the operating system")

    with pytest.raises(OSError, match="not from"):
        cli.run(command, [])


FILES_TO_WRITE = frozenset({"--json", "--to", "--keep", "--markdown"})
FOLDERS_TO_WRITE = frozenset({"--out", "--run-dir", "--triton", "--work"})


@pytest.mark.parametrize(
    ("options", "target", "sentence"),
    [
        (FILES_TO_WRITE, "there", "'there' is a folder; allowed: the name of a file"),
        (FILES_TO_WRITE, "file/a/b.json", "{here}/file is no folder"),
        (FOLDERS_TO_WRITE, "file", "'file' is a file; allowed: the name of a folder"),
        (FOLDERS_TO_WRITE, "file/a/b", "{here}/file is no folder"),
    ],
)
@pytest.mark.parametrize("command", MODULES)
def test_what_cannot_be_written_is_refused_before_the_work(
    command: str, options: frozenset[str], target: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pytest.importorskip(MODULES[command], reason="needs a package that is not installed", exc_type=ImportError)
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    allowed = ["a.pt", "new/a.pt", "there/a"] if options == FILES_TO_WRITE else ["there", "there/a", "new/a"]
    for _, parser in parsers(command, module.parser()):
        for option in (each for each in parser._actions if options & set(each.option_strings) and each.nargs != 0):
            with pytest.raises(ArgumentError) as refused:
                parser._get_value(option, target)
            assert sentence.format(here=tmp_path) in str(refused.value)
            assert [Path(parser._get_value(option, name)) for name in allowed] == list(map(Path, allowed))
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="an administrator may write anywhere")
def test_a_folder_that_is_not_writable_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ArgumentTypeError, match="is not writable"):
        cli.output_file(str(tmp_path / "new" / "a.json"))


def test_reports_go_where_json_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.write_report(None, {"a": 1})
    assert capsys.readouterr().out == ""
    cli.write_report("-", {"a": 1})
    assert json.loads(capsys.readouterr().out) == {"a": 1}
    cli.write_report(str(tmp_path / "out.json"), {"a": 1})
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == {"a": 1}
    cli.write_report(str(tmp_path / "new" / "inner" / "out.json"), {"a": 1})
    assert (tmp_path / "new" / "inner" / "out.json").exists()


@pytest.mark.parametrize("text", ["-1", "1.5", "", "one", "9223372036854775808", "1" * 5000, "\N{SUPERSCRIPT TWO}"])
@pytest.mark.parametrize("command", MODULES)
def test_every_seed_is_refused_that_no_bundle_can_name(command: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = pytest.importorskip(MODULES[command], reason="needs a package that is not installed", exc_type=ImportError)
    for _, parser in parsers(command, module.parser()):
        for option in (action for action in parser._actions if {"--seed", "--seeds"} & set(action.option_strings)):
            with pytest.raises(ArgumentError, match="is not a seed; allowed: 0 to 9223372036854775807"):
                parser._get_value(option, text)
            assert [parser._get_value(option, seed) for seed in ("0", "9223372036854775807")] == [0, 2**63 - 1]


def test_an_ellipsis_in_an_error_stays_whole() -> None:
    assert str(UsageError("no device.", allowed="cuda:0, ...")) == "no device; allowed: cuda:0, ..."
