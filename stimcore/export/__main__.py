"""`python -m stimcore.export`: write a run folder as a bundle, or add files to a bundle."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from stimcore import cli
from stimcore.export.arguments import parser

if __name__ == "__main__":
    cli.answer_early(parser)

if not cli.has_torch():
    cli.end_without_torch()

import torch

from stimcore.bundle import Bundle, open_bundle
from stimcore.bundle.opening import bundle_folders
from stimcore.engine.cpus import check_threads
from stimcore.errors import UsageError
from stimcore.export import latency
from stimcore.export.elastic import write_elastic
from stimcore.export.exits import write_exits
from stimcore.export.exporter import OnProgress
from stimcore.export.int8 import write_int8
from stimcore.export.request import ExportRequest, prepare
from stimcore.export.search import Limit, Search, measured_on
from stimcore.export.standalone import FOLDER, write_standalone
from stimcore.export.triton import write_repository
from stimcore.runs.bundles import is_bundle
from stimcore.runs.machine import flush_denormals
from stimcore.runs.trained_run import TrainedRun
from stimcore.subnets.spec import Spec

__all__ = ["main", "parser"]

_FOR_RUNS = ("out", "name", "subnets", "twin", "data_root", "jobs", "check", "exporter", "exits", "trust_code")
"""Options that say how a run becomes a bundle, which a bundle is already."""
_ADDED = ("standalone", "fp16", "with_preprocessing", "int8", "elastic", "triton", "latency", "best_under")
"""Options that make files of a bundle."""
A_RUN_OR_BUNDLE = "a run folder, or a bundle: exported/EXPERIMENT/METHOD"


@flush_denormals()
def main(argv: Sequence[str]) -> int:
    """Export, and return the exit code: 1 when a network failed its parity check and is therefore not listed."""
    options = parser().parse_args(argv)
    check_threads(options.threads)
    if options.jobs is not None and options.jobs < 1:
        raise UsageError(f"--jobs {options.jobs}", allowed="1 and more")
    if options.min_accuracy is not None and not (options.int8 and 0 <= options.min_accuracy <= 100):
        raise UsageError(f"--min-accuracy {options.min_accuracy:g}", allowed="0 to 100 percent, with --int8")
    limit = None if options.best_under is None else Limit.parse(options.best_under)
    if limit is None and options.search != "listed":
        raise UsageError(f"--search {options.search} without --best-under", allowed="both, as in --best-under 2ms")
    budget_ms = limit.value if limit is not None and limit.kind == "ms" and options.search == "listed" else None
    torch.set_num_threads(1)
    with tqdm(unit="file", disable=options.quiet or not sys.stderr.isatty()) as bar:
        on_progress = _progress_lines(bar, loud=options.json != "-")
        target, trained, complaints = _exported(options, on_progress)
        bundle = open_bundle(target)
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
                open_bundle(target, verify=False),
                [bundle.topology.full],
                min_accuracy=options.min_accuracy,
                on_progress=on_progress,
            )
            report["int8"] = asdict(row)
        if options.elastic:
            report["elastic"] = write_elastic(open_bundle(target, verify=False), on_progress).to_dict()
        if options.exits and trained is not None:
            report["exits"] = write_exits(trained, open_bundle(target, verify=False), on_progress).to_dict()
        if options.triton is not None:
            report["triton"] = [str(path) for path in write_repository(bundle, listed, options.triton)]
        # what was stored just now is only in a bundle that is opened anew
        bundle = open_bundle(target, verify=False)
        measured = None if options.latency or budget_ms is None else latency.read(bundle)
        if measured is not None and (reason := latency.why_other(measured, options.threads)) is not None:
            print(f"the stored times don't hold here and are measured anew: {reason}", file=sys.stderr)
            measured = None
        if options.latency or (budget_ms is not None and measured is None):
            bundles = [bundle, *latency.timed_beside(bundle)]
            all_measured = latency.measure(
                bundles, threads=options.threads, report=lambda done, total: on_progress(done, total, "timed")
            )
            for one, its_times in zip(bundles, all_measured, strict=True):
                latency.write(one, its_times)
            measured = all_measured[0]
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
                    f"{best['parameters']:,} parameters, {best['macs'] / 1e6:,.2f} million MACs, "
                    f"{'best' if best['exact'] else 'best found'} of {best['evaluated']:,} networks"
                )
            print(f"median for one image: {best['batch1_p50_ms']:.3g} ms on {latency.in_words(best['on'])}")
    cli.write_report(options.json, report)
    return 1 if complaints else 0


def _exported(options: argparse.Namespace, on_progress: OnProgress) -> tuple[Path, TrainedRun | None, list[str]]:
    """Export the run folder, and print what was found; a bundle in its place stays as it is.

    Returns:
        The bundle; the run, None for a bundle; a sentence for every network that is not listed.

    Raises:
        UsageError: Options don't fit.
        StimcoreError: The run can't be exported.
    """
    folder = options.run_dir
    if not folder.is_dir():
        raise UsageError(f"{folder} is a file" if folder.exists() else f"there is no folder {folder}", allowed=A_RUN_OR_BUNDLE)
    if (folder / "experiment.json").is_file() and not (folder / "run.json").is_file():
        methods = ", ".join(str(path) for path in bundle_folders(folder, depth=1))
        raise UsageError(f"{folder} is an experiment, not one of its methods", allowed=methods or A_RUN_OR_BUNDLE)
    if is_bundle(options.run_dir):
        _refuse_for_bundle(options)
        return options.run_dir, None, []
    exporter, specs = prepare(_request(options))
    for problem in exporter.trained.skipped:
        print(f"warning: {problem} {exporter.trained.checkpoint.name} is exported.", file=sys.stderr)
    complaints = exporter.export(specs, on_progress)
    for complaint in complaints:
        print(f"not listed: {complaint}", file=sys.stderr)
    for note in exporter.notes:
        print(f"note: {note}.", file=sys.stderr)
    return exporter.target, exporter.trained, complaints


def _refuse_for_bundle(options: argparse.Namespace) -> None:
    """Refuse options that a bundle in the place of a run folder has no use for, and a command that adds nothing to it.

    Raises:
        UsageError: There is such an option, or none that adds a file.
    """
    line = parser()
    given = [name for name in _FOR_RUNS if getattr(options, name) != line.get_default(name)]
    flags = {"twin": "--as"}
    added = ", ".join(f"--{name.replace('_', '-')}" for name in _ADDED)
    if given:
        flag = flags.get(given[0], f"--{given[0].replace('_', '-')}")
        raise UsageError(f"{flag} with the bundle {options.run_dir}", allowed=f"with a bundle: {added}")
    if not any(getattr(options, name) for name in _ADDED):
        raise UsageError(f"nothing to add to the bundle {options.run_dir}", allowed=added)


def _request(options: argparse.Namespace) -> ExportRequest:
    if options.out is None:
        raise UsageError(f"{options.run_dir} without --out", allowed="--out exported/EXPERIMENT for a run folder")
    return ExportRequest(
        run_dir=options.run_dir,
        out=options.out,
        name=options.name,
        subnets=options.subnets,
        twin=options.twin,
        data_root=options.data_root,
        jobs=options.jobs,
        check_images=options.check,
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
