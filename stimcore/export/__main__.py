"""`python -m stimcore.export`: write a run folder as a bundle."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from tqdm import tqdm

from stimcore import cli

if not cli.has_torch():
    cli.end_without_torch()

import torch

from stimcore.bundle import Bundle, open_bundle
from stimcore.errors import UsageError
from stimcore.export import latency
from stimcore.export.elastic import write_elastic
from stimcore.export.exits import write_exits
from stimcore.export.exporter import OnProgress
from stimcore.export.graphs import GraphExporter
from stimcore.export.int8 import write_int8
from stimcore.export.request import ExportRequest, prepare
from stimcore.export.search import Limit, Search, measured_on
from stimcore.export.standalone import FOLDER, write_standalone
from stimcore.export.triton import write_repository
from stimcore.runs.machine import flush_denormals
from stimcore.subnets.spec import Spec


def parser() -> cli.Parser:
    """Return the command line; a test compares its help text with a stored one."""
    line = cli.Parser(prog="python -m stimcore.export", description="Write a trained run as a bundle of ONNX networks.")
    line.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="what stimcore.train or stimcore.convert wrote")
    line.add_argument("--out", type=Path, required=True, metavar="DIR", help="exported/EXPERIMENT")
    line.add_argument("--name", help="folder of the bundle in the experiment (default: the run's name, and its seed unless 0)")
    line.add_argument(
        "--subnets", nargs="+", default=["ordered"], metavar="WHICH", help="ordered, main, or specs (default: ordered)"
    )
    line.add_argument("--as", dest="twin", metavar="SPEC", help="sub-network of the experiment's network that this one is")
    line.add_argument("--data-root", type=Path, metavar="DIR", help="where the data set is")
    line.add_argument("--jobs", type=int, default=1, metavar="N", help="files that are checked at once (default: %(default)s)")
    line.add_argument(
        "--exporter",
        choices=get_args(GraphExporter),
        default="torch.export",
        help="of torch, for the graphs: its current one, or the older, quicker and deprecated one (default: %(default)s)",
    )
    line.add_argument("--standalone", action="store_true", help="also one self-contained file per network, batch norms folded")
    line.add_argument("--fp16", action="store_true", help="also self-contained files in half precision")
    line.add_argument("--int8", action="store_true", help="also a self-contained file of the main network in 8 bits")
    line.add_argument(
        "--min-accuracy", type=float, metavar="PCT", help="refuse the file of --int8 where its accuracy is below PCT percent"
    )
    line.add_argument(
        "--with-preprocessing",
        action="store_true",
        help="also self-contained files that take uint8 pictures [N, H, W, C] of the network's size",
    )
    line.add_argument(
        "--elastic",
        action="store_true",
        help="also one file of all ordered sub-networks, whose second input chooses the depths",
    )
    line.add_argument(
        "--exits",
        action="store_true",
        help="also one file of the main network whose further outputs are the heads that training put behind inner blocks",
    )
    line.add_argument("--triton", type=Path, metavar="DIR", help="also a model repository for Triton")
    line.add_argument("--latency", action="store_true", help="time every listed network here, into latency.json")
    line.add_argument(
        "--best-under",
        metavar="LIMIT",
        help="write the most accurate network within e.g. 2ms here, 0.8MB or 20MMACs as one file",
    )
    line.add_argument(
        "--search",
        choices=["listed", "deletions"],
        default="listed",
        help="where --best-under looks: the listed networks, or all sets of deleted blocks (default: %(default)s)",
    )
    line.add_argument("--threads", type=int, default=1, help="of a network that is timed (default: %(default)s)")
    line.add_argument("--json", metavar="FILE", help="write what was exported as JSON ('-' for standard output)")
    line.add_argument(
        "--trust-code", action="store_true", help="import the modules that the run names as its network and its method"
    )
    line.add_argument("--quiet", action="store_true", help="no progress bar")
    return line


@flush_denormals()
def main(argv: Sequence[str]) -> int:
    """Export, and return the exit code: 1 when a network failed its parity check and is therefore not listed."""
    options = parser().parse_args(argv)
    for name in ("jobs", "threads"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name} {getattr(options, name)}", allowed="1 and more")
    if options.min_accuracy is not None and not (options.int8 and 0 <= options.min_accuracy <= 100):
        raise UsageError(f"--min-accuracy {options.min_accuracy:g}", allowed="0 to 100 percent, with --int8")
    limit = None if options.best_under is None else Limit.parse(options.best_under)
    if limit is None and options.search != "listed":
        raise UsageError(f"--search {options.search} without --best-under", allowed="both, as in --best-under 2ms")
    budget_ms = limit.value if limit is not None and limit.kind == "ms" and options.search == "listed" else None
    torch.set_num_threads(1)
    exporter, specs = prepare(_request(options))
    for problem in exporter.trained.skipped:
        print(f"warning: {problem} {exporter.trained.checkpoint.name} is exported.", file=sys.stderr)
    with tqdm(unit="file", disable=options.quiet or not sys.stderr.isatty()) as bar:
        on_progress = _progress_lines(bar, loud=options.json != "-")
        complaints = exporter.export(specs, on_progress)
        for complaint in complaints:
            print(f"not listed: {complaint}", file=sys.stderr)
        bundle = open_bundle(exporter.target)
        report = _sizes(bundle)
        listed = [bundle.topology.parse(entry.spec) for entry in bundle.manifest.networks.values()]
        if options.standalone or options.fp16 or options.with_preprocessing:
            rows = write_standalone(
                bundle, listed, half=options.fp16, preprocessing=options.with_preprocessing, on_progress=on_progress
            )
            plain = [row for row in rows if row.precision == "float32" and row.input == "images"]
            report["standalone_bytes"] = sum(row.bytes for row in plain)
        if options.int8:
            (row,) = write_int8(
                open_bundle(exporter.target, verify=False),
                [bundle.topology.full],
                min_accuracy=options.min_accuracy,
                on_progress=on_progress,
            )
            report["int8"] = asdict(row)
        if options.elastic:
            report["elastic"] = write_elastic(open_bundle(exporter.target, verify=False), on_progress).to_dict()
        if options.exits:
            report["exits"] = write_exits(exporter.trained, open_bundle(exporter.target, verify=False), on_progress).to_dict()
        if options.triton is not None:
            report["triton"] = [str(path) for path in write_repository(bundle, listed, options.triton)]
        # what was stored just now is only in a bundle that is opened anew
        bundle = open_bundle(exporter.target, verify=False)
        measured = None if options.latency or budget_ms is None else latency.read(bundle)
        if measured is not None and (reason := latency.why_other(measured, options.threads)) is not None:
            print(f"the stored times don't hold here and are measured anew: {reason}", file=sys.stderr)
            measured = None
        if options.latency or (budget_ms is not None and measured is None):
            measured = latency.measure(
                bundle, threads=options.threads, report=lambda done, total: on_progress(done, total, "timed")
            )
            latency.write(bundle, measured)
        if budget_ms is not None:
            times = measured or {}
            name = latency.best_under(bundle, times, budget_ms)
            report["best"] = _write_best(bundle, name, bundle.topology.parse(bundle.manifest.networks[name].spec))
            report["best"] |= {"batch1_p50_ms": times["latency_ms"][name]["batch1_p50"], "on": times["latency_on"]}
        elif limit is not None:
            search = Search(bundle, limit, threads=options.threads, report=lambda text: on_progress(0, 1, text))
            best = search.among_listed() if options.search == "listed" else search.among_deletions()
            report["best"] = best.to_dict() | {"on": measured_on(options.threads)}
    if options.json != "-":
        whole, main_network = report["bytes"] / 1e6, report["main_bytes"] / 1e6
        if not bundle.has_batch_norms:
            print(f"{bundle.topology.network} has no batch norms: nothing was re-calibrated")
        print(f"{bundle.path}: {whole:.2f} MB in all, {main_network:.2f} MB of it the main network")
        if "best" in report:
            best = report["best"]
            print(f"best under {options.best_under}: {best['file']}")
            if "macs" in best:
                print(
                    f"{best['correct']:,} of {best['images']:,} images right, {best['bytes'] / 1e6:.3g} MB, "
                    f"{best['parameters']:,} parameters, {best['macs'] / 1e6:.4g} million MACs, "
                    f"{'best' if best['exact'] else 'best found'} of {best['evaluated']:,} networks"
                )
            print(f"median for one image: {best['batch1_p50_ms']:.3g} ms on {latency.in_words(best['on'])}")
    cli.write_report(options.json, report)
    return 1 if complaints else 0


def _request(options: argparse.Namespace) -> ExportRequest:
    return ExportRequest(
        run_dir=options.run_dir,
        out=options.out,
        name=options.name,
        subnets=options.subnets,
        twin=options.twin,
        data_root=options.data_root,
        jobs=options.jobs,
        trust_code=options.trust_code,
        exits=options.exits,
        graphs=options.exporter,
    )


def _progress_lines(bar: "tqdm[None]", *, loud: bool) -> OnProgress:
    """Return a function that moves a bar, or prints a line per file where there is no bar."""

    def on_progress(done: int, total: int, line: str) -> None:
        bar.total = total
        bar.update(done - bar.n)
        if bar.disable and loud and line != "timed":
            print(f"{done}/{total} {line}", flush=True)

    return on_progress


def _write_best(bundle: Bundle, name: str, spec: Spec) -> dict[str, Any]:
    """Write a listed network as a self-contained file, and return its entry of the report."""
    (row,) = write_standalone(bundle, [spec])
    return {"network": name, "file": str(bundle.path / FOLDER / row.file), "correct": row.correct}


def _sizes(bundle: Bundle) -> dict[str, Any]:
    """Return the bytes of the bundle's networks: all together, and the main one alone."""
    shared = (bundle.path / "weights.bin").stat().st_size
    graphs = {name: entry.bytes for name, entry in bundle.manifest.networks.items()}
    return {
        "bundle": str(bundle.path),
        "networks": len(graphs),
        "bytes": shared + sum(graphs.values()),
        "main_bytes": shared + graphs["main.onnx"],
    }


if __name__ == "__main__":
    cli.run(main)
