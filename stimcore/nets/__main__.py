"""`python -m stimcore.nets`: the catalogue, or one network's stages, blocks, counts, parameters and MACs."""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from stimcore import cli
from stimcore.errors import UsageError
from stimcore.nets.catalogue import NETWORKS, PATTERNS, build, native_shape
from stimcore.nets.cost import Cost, Costs
from stimcore.nets.staged import StagedNet
from stimcore.subnets.families import KINDS, count
from stimcore.subnets.part_name import PartName
from stimcore.subnets.topology import Topology

HEADINGS = ("network", "images", "blocks per stage", "removable", "ordered", "deletions", "permutations", "parameters", "MACs")
WIDTHS = (14, 9, 16, 9, 9, 11, 13, 10, 10)


def main(argv: Sequence[str]) -> int:
    """Prints what networks are made of."""
    options = parser().parse_args(argv)
    torch.set_num_threads(1)
    if options.name is None:
        for given, option in ((options.spec, "--spec"), (options.shape, "--shape"), (options.classes, "--classes")):
            if given not in (None, []):
                raise UsageError(f"{option} without a network", todo="Name one: python -m stimcore.nets resnet20.")
        _catalogue(options.markdown, options.json)
        return 0
    if options.markdown:
        raise UsageError("--markdown with one network", allowed="--markdown for the whole catalogue")
    shape, classes = native_shape(options.name)
    shape = shape if options.shape is None else _shape(options.shape)
    classes = classes if options.classes is None else options.classes
    if classes < 1:
        raise UsageError(f"--classes {classes}", allowed="1 and more")
    net = build(options.name, input_shape=shape, num_classes=classes)
    found = described(net, options.spec)
    if options.json != "-":
        print("\n".join(_page(net.topology, found)))
    cli.write_report(options.json, found)
    return 0


def parser() -> cli.Parser:
    """The command line."""
    line = cli.Parser(
        prog="python -m stimcore.nets", description="What networks are made of, and how many sub-networks they have."
    )
    line.add_argument("name", nargs="?", metavar="NAME", help=f"a network of the catalogue; also {PATTERNS}")
    line.add_argument(
        "--spec", nargs="+", default=[], metavar="SPEC", help="sub-networks whose costs are wanted: d1-1-1, 1-2.4.7"
    )
    line.add_argument("--shape", metavar="CxHxW", help="images (default: those that the network was published for)")
    line.add_argument("--classes", type=int, metavar="N", help="width of the logits (default: of the published network)")
    line.add_argument("--markdown", action="store_true", help="the catalogue as the table of docs/networks.md")
    line.add_argument("--json", metavar="FILE", help="write everything as JSON ('-' for standard output)")
    return line


def described(net: StagedNet, specs: Sequence[str] = ()) -> dict[str, Any]:
    """Everything that is known of a network, in plain JSON types; counts beyond any use as text."""
    topology, costs = net.topology, Costs(net)
    wanted = [topology.parse(text) for text in specs]
    return {
        "network": topology.network,
        "input_shape": list(net.input_shape),
        "num_classes": net.num_classes,
        "stages": [list(stage) for stage in topology.stages],
        "removable": list(topology.removable),
        "fixed": {str(block): why for block, why in topology.fixed.items()},
        "counts": {kind: _count(topology, kind) for kind in KINDS},
        **_cost(costs.main),
        "parts": {str(name): _cost(cost) for name, cost in costs.parts(topology.full).items()},
        "specs": [
            {"spec": str(spec), "short": topology.short(spec), "kind": topology.kind(spec), **_cost(costs.of(spec))}
            for spec in wanted
        ],
    }


def _cost(cost: Cost) -> dict[str, int]:
    return {"parameters": cost.parameters, "macs": cost.macs}


def _count(topology: Topology, kind: str) -> int | str:
    number = count(topology, kind)
    if number < 10**12:
        return number
    return f"2^{len(topology.removable)} - 1" if kind == "delete" else f"about 10^{math.log10(number):.0f}"


def _catalogue(markdown: bool, target: str | None) -> None:
    """Row by row, as the larger networks take a second each."""
    everything = []
    line = _table_line if markdown else _plain
    if target != "-":
        print(line(HEADINGS))
    if markdown:
        print(line(["---"] * len(HEADINGS)))
    for name in NETWORKS:
        shape, classes = native_shape(name)
        everything.append(described(build(name, input_shape=shape, num_classes=classes)))
        if target != "-":
            print(line(_row(everything[-1])), flush=True)
    if not markdown and target != "-":
        print(f"also: {PATTERNS}")
    cli.write_report(target, everything)


def _row(found: dict[str, Any]) -> list[str]:
    counts = [_number(found["counts"][kind]) for kind in KINDS]
    sizes = "-".join(str(len(stage)) for stage in found["stages"])
    shape = "x".join(map(str, found["input_shape"]))
    return [
        found["network"],
        shape,
        sizes,
        str(len(found["removable"])),
        *counts,
        f"{found['parameters']:,}",
        _macs(found["macs"]),
    ]


def _table_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(cells: Sequence[str]) -> str:
    first, *others = (f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))
    return "  ".join([f"{first.strip():{WIDTHS[0]}}", *others])


def _number(value: int | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"


def _macs(value: int) -> str:
    return f"{value / 1e6:,.1f} M"


def _page(topology: Topology, found: dict[str, Any]) -> Iterator[str]:
    """One network in lines of text."""
    yield f"{found['network']}: images {'x'.join(map(str, found['input_shape']))}, {found['num_classes']} classes"
    yield f"{len(topology.sizes)} stages with {'-'.join(map(str, topology.sizes))} blocks"
    names = {"ordered": "ordered sub-networks", "delete": "sets of blocks to delete", "permute": "orders of blocks"}
    for kind, text in names.items():
        yield f"{_number(found['counts'][kind])} {text}"
    yield f"{found['parameters']:,} parameters, {_macs(found['macs'])} MACs"
    rows = [(name, _about(topology, name), cost["parameters"], cost["macs"]) for name, cost in found["parts"].items()]
    yield f"{'part':20} {'parameters':>12} {'MACs':>12}"
    for (about, parameters, macs), group in itertools.groupby(rows, lambda row: row[1:]):
        alike = [name for name, *_ in group]
        name = alike[0] if len(alike) == 1 else f"{alike[0]} to {re.sub(r'[a-z]+', '', alike[-1])}"
        yield f"{name:20} {parameters:>12,} {_macs(macs):>12}  {about}" + (" (each)" if len(alike) > 1 else "")
    for spec in found["specs"]:
        costs = f"{spec['parameters']:,} parameters, {_macs(spec['macs'])} MACs"
        yield f"{spec['short']}: {spec['kind']}, {costs} ({100 * spec['macs'] / found['macs']:.1f}% of main)"


def _about(topology: Topology, part: str) -> str:
    name = PartName.parse(part)
    if name.kind != "block":
        return ""
    block = name.number
    stage = f"stage {topology.stage_of(block) + 1}"
    if topology.ordered_only:
        return f"{stage}, can't be removed alone: layers concatenate"
    return f"{stage}, " + (f"not removable: {topology.fixed[block]}" if block in topology.fixed else "removable")


def _shape(text: str) -> tuple[int, int, int]:
    match = re.fullmatch(r"([1-9]\d{0,2})x([1-9]\d{0,3})x([1-9]\d{0,3})", text, re.ASCII)
    if match is None:
        raise UsageError(f"--shape {text}", allowed="CxHxW, as in 3x32x32")
    return int(match[1]), int(match[2]), int(match[3])


if __name__ == "__main__":
    cli.run(main)
