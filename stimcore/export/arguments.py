"""The command line of `python -m stimcore.export`: what is written of a run, and how it is checked."""

import argparse
from pathlib import Path
from typing import get_args

from stimcore import cli
from stimcore.export.choices import CHECK_IMAGES, GraphExporter


def parser() -> cli.Parser:
    """Return the command line; a test compares its help text with a stored one."""
    line = cli.Parser(
        prog="python -m stimcore.export", description="Write a trained run as a bundle of ONNX networks, or add files to one."
    )
    line.add_argument(
        "run_dir",
        metavar="RUN_DIR",
        type=Path,
        help="what stimcore.train or stimcore.convert wrote; or a bundle, which gets the further files that are asked for",
    )
    line.add_argument("--out", type=cli.output_folder, metavar="DIR", help="exported/EXPERIMENT, for a run folder")
    line.add_argument("--name", help="folder of the bundle in the experiment (default: the run's name, and its seed unless 0)")
    line.add_argument(
        "--subnets", nargs="+", default=["ordered"], metavar="WHICH", help="ordered, main, or specs (default: ordered)"
    )
    line.add_argument("--as", dest="twin", metavar="SPEC", help="sub-network of the experiment's network that this one is")
    cli.add_data_root(line)
    line.add_argument("--jobs", type=int, metavar="N", help="threads that check files (default: one per usable processor)")
    line.add_argument(
        "--check",
        type=_check_images,
        default=CHECK_IMAGES,
        metavar="N",
        help="evaluation images on which every file is compared with torch, or 'all' (default: %(default)s)",
    )
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
    line.add_argument("--triton", type=cli.output_folder, metavar="DIR", help="also a model repository for Triton")
    line.add_argument(
        "--latency",
        action="store_true",
        help="time every listed network here, into latency.json, in turns with the experiment's other methods that have times",
    )
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
    cli.add_json(line, "write what was exported as JSON")
    line.add_argument(
        "--trust-code", action="store_true", help="import the modules that the run names as its network and its method"
    )
    cli.add_quiet(line)
    return line


def _check_images(text: str) -> int | None:
    """Return the number that `--check` names; None for all images.

    Raises:
        argparse.ArgumentTypeError: The text is neither a number from 1 nor `all`.
    """
    if text == "all":
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"'{text}' is neither a number of images, 1 and more, nor 'all'")
    return int(text)
