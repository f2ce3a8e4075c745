"""`python -m stimcore.bench step|...`: run one benchmark and print its ratios."""

from collections.abc import Sequence
from types import ModuleType

from stimcore import cli

if not cli.has_torch():
    cli.end_without_torch()

from stimcore.bench import edit, export, serve, step, sweep

BENCHES: dict[str, ModuleType] = {
    "step": step,
    "sweep": sweep,
    "edit": edit,
    "export": export,
    "serve": serve,
}
"""Name -> module with `add_arguments(parser)`, `Settings` and `run(settings) -> report`; its first line is the help text."""


def parser() -> cli.Parser:
    """Return the command line."""
    line = cli.Parser(
        prog="python -m stimcore.bench", description="Measure, interleaved in one process; print ratios of medians."
    )
    benches = line.add_subparsers(dest="bench", required=True, metavar="BENCH", parser_class=cli.Parser)
    for name, module in BENCHES.items():
        summary = (module.__doc__ or "").partition("\n")[0]
        one = benches.add_parser(name, help=summary, description=summary)
        module.add_arguments(one)
        one.add_argument("--json", metavar="FILE", help="write the numbers as JSON ('-' for standard output)")
    return line


def main(argv: Sequence[str]) -> int:
    """Run one benchmark and return the exit code."""
    options = vars(parser().parse_args(argv))
    module, target = BENCHES[options.pop("bench")], options.pop("json")
    report = module.run(module.Settings(**options))
    if target != "-":
        for kind in ("ratios", "seconds"):
            for name, value in report.get(kind, {}).items():
                print(f"{kind:8} {name:24} {value:10.4f}")
        print(f"n = {report['n']}, {report['network']}, {report['machine'].get('device', '')}")
    cli.write_report(target, report)
    return 0


if __name__ == "__main__":
    cli.run(main)
