"""`python -m stimcore.data`: what would be read of a folder of pictures."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stimcore import cli
from stimcore.data.folder import FolderPlan, folder_and_size, plan_folder
from stimcore.data.listing import enumerated, shown
from stimcore.data.survey import survey

MOST_CLASSES = 40
"""Classes that are printed; `--json` has all."""


def parser() -> cli.Parser:
    """Return the command line; a test compares its help text with a stored one."""
    line = cli.Parser(prog="python -m stimcore.data", description="Look at folders of pictures before they are trained on.")
    commands = line.add_subparsers(dest="command", required=True, metavar="COMMAND")
    inspect = commands.add_parser(
        "inspect",
        help="print what --dataset folder:PATH would read",
        description="Print what --dataset folder:PATH would read: parts, classes, how pictures are converted, what is not "
        "read, and which files are broken. Every file is decoded. Exit code 1 if there are broken files.",
    )
    inspect.add_argument("path", metavar="PATH", help="a folder, or PATH@SIZE for the side in pixels, as in --dataset")
    cli.add_json(inspect, "write everything as JSON")
    return line


def main(argv: Sequence[str]) -> int:
    """Inspect, and return the exit code: 1 if there are files that can't be read."""
    options = parser().parse_args(argv)
    root, size = folder_and_size(options.path)
    plan = plan_folder(root, size=size)
    paths = [path for path, _ in (*plan.train, *plan.test)]
    broken = dict(sorted({**plan.survey.broken, **survey(paths, check=plan.preprocessing).broken}.items()))
    report = _report(plan, broken)
    if options.json != "-":
        _print(report)
    cli.write_report(options.json, report)
    return cli.FAILED if broken else cli.DONE


def _report(plan: FolderPlan, broken: dict[Path, str]) -> dict[str, Any]:
    """Return everything that is known of a folder as plain JSON types."""
    listing, root = plan.listing, plan.listing.root
    counts = [Counter(label for _, label in items) for items in (plan.train, plan.test)]
    steps = plan.preprocessing.to_dict()
    return {
        "folder": str(root),
        "parts": list(listing.parts),
        "train": len(plan.train),
        "test": len(plan.test),
        "classes": {name: {"train": counts[0][label], "test": counts[1][label]} for label, name in enumerate(listing.classes)},
        # mean and deviation are measured when the pictures are read
        "preprocessing": {key: steps[key] for key in steps if key not in ("mean", "std")},
        "conversions": dict(sorted(plan.survey.conversions.items())),
        "ignored": listing.ignored,
        "not_read": [shown(path, root) for path in (*listing.outside, *listing.unread)],
        "broken": {shown(path, root): reason for path, reason in broken.items()},
        "notes": list(plan.notes),
    }


def _print(report: dict[str, Any]) -> None:
    parts, classes, steps = report["parts"], report["classes"], report["preprocessing"]
    whence = f"{parts[0]}/ and {parts[1]}/" if len(parts) == 2 else "a share of every class becomes the test part"
    print(f"{report['folder']}: {report['train']:,} training and {report['test']:,} test pictures ({whence})")
    height, width = steps["crop"]
    colour = "grey, 1 channel" if steps["mode"] == "L" else "colour, 3 channels"
    resize = steps["resize"]
    print(
        f"read as: {colour}, {width} x {height} pixels (shorter side {resize['shorter']}, {resize['filter']}; "
        "then the centre; pictures of this size stay as they are)"
    )
    print(f"classes: {len(classes)}")
    name_width = max(map(len, classes))
    for name, count in list(classes.items())[:MOST_CLASSES]:
        print(f"  {name:{name_width}}  {count['train']:>9,} training  {count['test']:>9,} test")
    if len(classes) > MOST_CLASSES:
        print(f"  and {len(classes) - MOST_CLASSES} others")
    for note in report["notes"]:
        print(f"note: {note}")
    if broken := report["broken"]:
        words = [f"{name} ({reason})" for name, reason in broken.items()]
        print(f"broken files: {len(broken):,}, which end a training before it begins: {enumerated(words)}")


if __name__ == "__main__":
    cli.run(main)
