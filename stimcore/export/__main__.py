"""`python -m stimcore.export`: run folder to bundle."""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from stimcore import cli
from stimcore.data.sources import load
from stimcore.enumerate import ordered
from stimcore.errors import UsageError
from stimcore.export.exporter import Exporter, write_experiment
from stimcore.topology import Spec, Topology
from stimcore.training.run import trained_network


def main(argv: Sequence[str]) -> int:
    """Exports; 1 when a network failed its parity gate and is not listed."""
    line = cli.Parser(prog="python -m stimcore.export", description="Write a trained run as a bundle of ONNX networks.")
    line.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="what stimcore.train wrote")
    line.add_argument("--out", type=Path, required=True, metavar="DIR", help="exported/EXPERIMENT")
    line.add_argument("--name", help="folder of the bundle in the experiment (default: the method)")
    line.add_argument(
        "--subnets", nargs="+", default=["ordered"], metavar="WHICH", help="ordered, main, or specs (default: ordered)"
    )
    line.add_argument("--data-root", type=Path, metavar="DIR", help="where the data set is")
    line.add_argument("--threads", type=int, default=1, help="of onnxruntime and torch (default: %(default)s)")
    options = line.parse_args(argv)
    run, net, checkpoint = trained_network(options.run_dir)
    if run.spec is not None:
        raise UsageError(
            f"{options.run_dir} holds a twin, trained alone as {run.spec}", allowed="runs of whole networks, so far"
        )
    name = options.name or run.method
    if not name or name.startswith(".") or Path(name).name != name:
        raise UsageError(f"a bundle named '{name}'", allowed="letters, digits and dashes")
    specs = _specs(net.topology, options.subnets)
    torch.set_num_threads(options.threads)
    dataset = load(run.dataset, options.data_root or (Path(run.data_root) if run.data_root else None))
    experiment = write_experiment(options.out, dataset, net)
    exporter = Exporter(run, net, checkpoint, options.run_dir, dataset, experiment, options.threads)
    folder, complaints = exporter.export(name, specs, lambda text: print(text, flush=True))
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {size / 1e6:.2f} MB")
    for complaint in complaints:
        print(f"not listed: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


def _specs(topology: Topology, wanted: Sequence[str]) -> list[Spec]:
    if "ordered" in wanted:
        return list(ordered(topology))
    return [topology.parse(text) for text in wanted]


if __name__ == "__main__":
    cli.run(main)
