"""`python -m stimcore.nets`: the catalogue, or one network's stages, blocks, counts, parameters and MACs."""

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from stimcore import cli
from stimcore.nets.arguments import parser

if __name__ == "__main__":
    cli.answer_early(parser)

if not cli.has_torch():
    cli.end_without_torch()

import torch

from stimcore.errors import UsageError
from stimcore.nets.catalogue import NETWORKS, build, native_shape
from stimcore.nets.description import describe
from stimcore.nets.patterns import PATTERNS
from stimcore.subnets.families import KINDS
from stimcore.subnets.part_name import PartName
from stimcore.subnets.topology import Topology

__all__ = ["main", "parser"]

COLUMNS = {
    "network": 14,
    "images": 9,
    "blocks per stage": 16,
    "removable": 9,
    "ordered": 9,
    "deletions": 11,
    "permutations": 13,
    "parameters": 10,
    "MACs": 10,
}
"""Heading of each column of the catalogue -> its width in characters."""


def main(argv: Sequence[str]) -> int:
    """Print what networks are made of; return the exit code."""
    options = parser().parse_args(argv)
    torch.set_num_threads(1)
    if options.name is None:
        for value, option in ((options.spec, "--spec"), (options.shape, "--shape"), (options.classes, "--classes")):
            if value not in (None, []):
                raise UsageError(f"{option} without a network", todo="Name one: python -m stimcore.nets resnet20.")
        _print_catalogue(options.markdown, options.json)
        return 0
    if options.markdown:
        raise UsageError("--markdown with one network", allowed="--markdown for the whole catalogue")
    shape, classes = native_shape(options.name)
    shape = shape if options.shape is None else _parse_shape(options.shape)
    classes = classes if options.classes is None else options.classes
    if classes < 1:
        raise UsageError(f"--classes {classes}", allowed="1 and more")
    net = build(options.name, input_shape=shape, num_classes=classes)
    description = describe(net, [net.topology.parse(text) for text in options.spec])
    if options.json != "-":
        print("\n".join(_page(net.topology, description)))
    cli.write_report(options.json, description)
    return 0


def _parse_shape(text: str) -> tuple[int, int, int]:
    match = re.fullmatch(r"([1-9]\d{0,2})x([1-9]\d{0,3})x([1-9]\d{0,3})", text, re.ASCII)
    if match is None:
        raise UsageError(f"--shape {text}", allowed="CxHxW, as in 3x32x32")
    return int(match[1]), int(match[2]), int(match[3])


def _print_catalogue(markdown: bool, json_target: str | None) -> None:
    """Print the catalogue row by row, because a large network takes a second to build and count."""
    descriptions = []
    line = markdown_line if markdown else _text_line
    shown = json_target != "-"
    if shown:
        print(line(list(COLUMNS)))
    if markdown:
        print(line(["---"] * len(COLUMNS)))
    for name in NETWORKS:
        shape, classes = native_shape(name)
        descriptions.append(describe(build(name, input_shape=shape, num_classes=classes)))
        if shown:
            print(line(catalogue_row(descriptions[-1])), flush=True)
    if shown and not markdown:
        print(f"also: {PATTERNS}")
    cli.write_report(json_target, descriptions)


def catalogue_row(description: dict[str, Any]) -> list[str]:
    """Return a network's row in the catalogue, a text for each of `COLUMNS`."""
    return [
        description["network"],
        "x".join(map(str, description["input_shape"])),
        "-".join(str(len(stage)) for stage in description["stages"]),
        str(len(description["removable"])),
        *(_count_text(description["counts"][kind]) for kind in KINDS),
        f"{description['parameters']:,}",
        _macs_text(description["macs"]),
    ]


def markdown_line(cells: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def _text_line(cells: Sequence[str]) -> str:
    first, *others = (f"{cell:>{width}}" for cell, width in zip(cells, COLUMNS.values(), strict=True))
    return "  ".join([f"{first.strip():{COLUMNS['network']}}", *others])


def _count_text(value: int | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"


def _macs_text(macs: int) -> str:
    return f"{macs / 1e6:,.1f} M"


def _page(topology: Topology, description: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that describe one network."""
    shape = "x".join(map(str, description["input_shape"]))
    yield f"{description['network']}: images {shape}, {description['num_classes']} classes"
    yield f"{len(topology.sizes)} stages with {'-'.join(map(str, topology.sizes))} blocks"
    names = {"ordered": "ordered sub-networks", "delete": "sets of blocks to delete", "permute": "orders of blocks"}
    for kind, text in names.items():
        yield f"{_count_text(description['counts'][kind])} {text}"
    yield f"{description['parameters']:,} parameters, {_macs_text(description['macs'])} MACs"
    if not description["batch_norms"]:
        yield "no batch norms: sub-networks need no re-calibration"
    yield f"{'part':20} {'parameters':>12} {'MACs':>12}"
    rows = [(name, _remark(topology, name), cost["parameters"], cost["macs"]) for name, cost in description["parts"].items()]
    # consecutive parts that differ in their number alone share a line: "block13 to 14"
    for (remark, parameters, macs), group in itertools.groupby(rows, lambda row: row[1:]):
        parts = [name for name, *_ in group]
        several = len(parts) > 1
        name = f"{parts[0]} to {re.sub(r'[a-z]+', '', parts[-1])}" if several else parts[0]
        yield f"{name:20} {parameters:>12,} {_macs_text(macs):>12}  {remark}" + (" (each)" if several else "")
    for spec in description["specs"]:
        costs = f"{spec['parameters']:,} parameters, {_macs_text(spec['macs'])} MACs"
        yield f"{spec['short']}: {spec['kind']}, {costs} ({100 * spec['macs'] / description['macs']:.1f}% of main)"


def _remark(topology: Topology, part: str) -> str:
    """Return a block's stage and whether it is removable; nothing for stem, transitions and head."""
    name = PartName.parse(part)
    if name.kind != "block":
        return ""
    stage = f"stage {topology.stage_of(name.number) + 1}"
    if topology.ordered_only:
        return f"{stage}, can't be removed alone: layers concatenate"
    return f"{stage}, " + (f"not removable: {topology.fixed[name.number]}" if name.number in topology.fixed else "removable")


if __name__ == "__main__":
    cli.run(main)
