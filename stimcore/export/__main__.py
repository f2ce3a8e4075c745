"""`python -m stimcore.export`: run folder to bundle."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from stimcore import cli
from stimcore.data.sources import load
from stimcore.enumerate import ordered
from stimcore.errors import UsageError
from stimcore.export.experiment import shared_experiment
from stimcore.export.exporter import Exporter
from stimcore.topology import Spec, Topology
from stimcore.training.run import trained_network


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
    line.add_argument("--quiet", action="store_true", help="no progress bar")
    return line


def main(argv: Sequence[str]) -> int:
    """Exports; 1 when a network failed its parity gate and is not listed."""
    options = parser().parse_args(argv)
    if options.jobs < 1:
        raise UsageError(f"--jobs {options.jobs}", allowed="1 and more")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    exporter, specs = prepare(options)
    with tqdm(unit="file", disable=options.quiet or not sys.stderr.isatty()) as bar:

        def tell(done: int, total: int, line: str) -> None:
            bar.total = total
            bar.update(done - bar.n)
            if bar.disable:
                print(f"{done}/{total} {line}", flush=True)

        complaints = exporter.export(specs, tell)
    size = sum(file.stat().st_size for file in exporter.target.iterdir())
    main_bytes = sum((exporter.target / name).stat().st_size for name in ("main.onnx", "weights.bin"))
    print(f"{exporter.target}: {size / 1e6:.2f} MB in all, {main_bytes / 1e6:.2f} MB of it the main network")
    for complaint in complaints:
        print(f"not listed: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


def prepare(options: Namespace) -> tuple[Exporter, list[Spec]]:
    """Reads the run and its data set, and opens or makes the experiment.

    Raises:
        StimcoreError: Something of it is missing or does not fit.
    """
    run, net, checkpoint = trained_network(options.run_dir)
    twin = options.twin or run.spec
    dataset = load(run.dataset, options.data_root or (Path(run.data_root) if run.data_root else None))
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
