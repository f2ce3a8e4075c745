"""`python -m stimcore.export`: run folder to bundle."""

import re
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from stimcore import cli
from stimcore.bundle import Bundle, open_bundle
from stimcore.errors import UsageError
from stimcore.export import latency
from stimcore.export.experiment import shared_experiment
from stimcore.export.exporter import Exporter
from stimcore.export.standalone import write_standalone
from stimcore.export.triton import write_repository
from stimcore.runs.trained_run import open_run
from stimcore.subnets.families import ordered
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology


def parser() -> cli.Parser:
    """The command line; its help text is frozen by a test."""
    line = cli.Parser(prog="python -m stimcore.export", description="Write a trained run as a bundle of ONNX networks.")
    line.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="what stimcore.train or stimcore.convert wrote")
    line.add_argument("--out", type=Path, required=True, metavar="DIR", help="exported/EXPERIMENT")
    line.add_argument("--name", help="folder of the bundle in the experiment (default: the method, or twin-SPEC)")
    line.add_argument(
        "--subnets", nargs="+", default=["ordered"], metavar="WHICH", help="ordered, main, or specs (default: ordered)"
    )
    line.add_argument("--as", dest="twin", metavar="SPEC", help="sub-network of the experiment's network that this one is")
    line.add_argument("--data-root", type=Path, metavar="DIR", help="where the data set is")
    line.add_argument("--jobs", type=int, default=1, metavar="N", help="files that are checked at once (default: %(default)s)")
    line.add_argument("--standalone", action="store_true", help="also one self-contained file per network, batch norms folded")
    line.add_argument("--fp16", action="store_true", help="also self-contained files in half precision")
    line.add_argument("--triton", type=Path, metavar="DIR", help="also a model repository for Triton")
    line.add_argument("--latency", action="store_true", help="time every listed network here, into latency.json")
    line.add_argument("--best-under", metavar="TIME", help="write the most accurate network within e.g. 2ms as one file")
    line.add_argument("--threads", type=int, default=1, help="of a network that is timed (default: %(default)s)")
    line.add_argument("--json", metavar="FILE", help="write what was exported as JSON ('-' for standard output)")
    line.add_argument("--quiet", action="store_true", help="no progress bar")
    return line


def main(argv: Sequence[str]) -> int:
    """Exports; 1 when a network failed its parity gate and is not listed."""
    options = parser().parse_args(argv)
    for name in ("jobs", "threads"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name} {getattr(options, name)}", allowed="1 and more")
    budget_ms = None if options.best_under is None else milliseconds(options.best_under)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    exporter, specs = prepare(options)
    with tqdm(unit="file", disable=options.quiet or not sys.stderr.isatty()) as bar:
        tell = _teller(bar, options.json != "-")
        complaints = exporter.export(specs, tell)
        for complaint in complaints:
            print(f"not listed: {complaint}", file=sys.stderr)
        bundle = open_bundle(exporter.target)
        report = _sizes(bundle)
        listed = [bundle.topology.parse(entry.spec) for entry in bundle.manifest.networks.values()]
        if options.standalone or options.fp16:
            rows = write_standalone(bundle, listed, half=options.fp16, tell=tell)
            report["standalone_bytes"] = sum(row.bytes for row in rows if row.precision == "float32")
        if options.triton is not None:
            report["triton"] = [str(path) for path in write_repository(bundle, listed, options.triton)]
        if options.latency or (budget_ms is not None and latency.read(bundle) is None):
            measured = latency.measure(bundle, threads=options.threads, tell=lambda done, total: tell(done, total, "timed"))
            latency.write(bundle, measured)
        if budget_ms is not None:
            name = latency.best_under(bundle, latency.read(bundle) or {}, budget_ms)
            (row,) = write_standalone(bundle, [bundle.topology.parse(bundle.manifest.networks[name].spec)])
            report["best"] = {"network": name, "file": str(bundle.path / "standalone" / row.file), "correct": row.correct}
    if options.json != "-":
        print(
            f"{bundle.path}: {report['bytes'] / 1e6:.2f} MB in all, {report['main_bytes'] / 1e6:.2f} MB of it the main network"
        )
        if "best" in report:
            print(f"best under {options.best_under}: {report['best']['file']}")
    cli.write_report(options.json, report)
    return 1 if complaints else 0


def _teller(bar: "tqdm[None]", loud: bool) -> Callable[[int, int, str], None]:
    def tell(done: int, total: int, line: str) -> None:
        bar.total = total
        bar.update(done - bar.n)
        if bar.disable and loud and line != "timed":
            print(f"{done}/{total} {line}", flush=True)

    return tell


def _sizes(bundle: Bundle) -> dict[str, Any]:
    """What the bundle's networks weigh, together and the main one by itself."""
    shared = (bundle.path / "weights.bin").stat().st_size
    graphs = {name: entry.bytes for name, entry in bundle.manifest.networks.items()}
    return {
        "bundle": str(bundle.path),
        "networks": len(graphs),
        "bytes": shared + sum(graphs.values()),
        "main_bytes": shared + graphs["main.onnx"],
    }


def milliseconds(text: str) -> float:
    """A time such as `2ms`, `1.5 ms` or `0.002s`, in milliseconds.

    Raises:
        UsageError: Anything else, or nothing.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(ms|s|us)\s*", text)
    value = float(match[1]) * {"ms": 1.0, "s": 1e3, "us": 1e-3}[match[2]] if match else 0.0
    if value <= 0:
        raise UsageError(f"a time of '{text}'", allowed="more than nothing, as in 2ms, 500us or 0.1s")
    return value


def prepare(options: Namespace) -> tuple[Exporter, list[Spec]]:
    """Reads the run and its data set, and opens or makes the experiment.

    Raises:
        StimcoreError: Something of it is missing or does not fit.
    """
    trained = open_run(options.run_dir)
    run, net, checkpoint = trained.run, trained.net, trained.checkpoint
    twin = options.twin or run.spec
    dataset = trained.dataset(options.data_root)
    experiment = shared_experiment(options.out, dataset, net.topology, mean=run.mean, std=run.std, twin=twin is not None)
    name = run.method
    if twin is not None:
        whole = experiment.topology
        spec = whole.parse(twin)
        if tuple(map(len, spec.stages)) != net.topology.sizes:
            raise UsageError(
                f"a network with {'-'.join(map(str, net.topology.sizes))} blocks as {twin}",
                allowed="a sub-network with as many blocks per stage",
            )
        twin, name = str(spec), f"twin-{whole.short(spec)}"
    name = options.name or name
    if name.startswith(".") or Path(name).name != name:
        raise UsageError(f"a bundle named '{name}'", allowed="letters, digits, dots and dashes, not beginning with a dot")
    exporter = Exporter(run, net, checkpoint, options.run_dir, experiment, name, spec=twin, jobs=options.jobs)
    return exporter, _specs(net.topology, options.subnets)


def _specs(topology: Topology, wanted: Sequence[str]) -> list[Spec]:
    if "ordered" in wanted:
        return list(ordered(topology))
    return [topology.parse(text) for text in wanted]


if __name__ == "__main__":
    cli.run(main)
