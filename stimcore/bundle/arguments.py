"""The command line of `python -m stimcore.bundle`: verify, migrate, pictures, from-onnx."""

from pathlib import Path

from stimcore import cli


def parser() -> cli.Parser:
    """Return the command line; a test compares its help text with a stored one."""
    line = cli.Parser(
        prog="python -m stimcore.bundle",
        description="Check that bundles are what was exported, migrate them to the newest version of the format, write the "
        "evaluation images of an experiment as PNG files, in a folder per class, or make a bundle of a residual network in any "
        "ONNX file.",
    )
    line.add_argument("what", choices=["verify", "migrate", "pictures", "from-onnx"])
    line.add_argument(
        "folder",
        type=Path,
        help="exported/EXPERIMENT/METHOD (verify only), exported/EXPERIMENT or exported; from-onnx: the ONNX file",
    )
    line.add_argument("--seed", type=cli.seed, help="verify: of which network is run (default: another one every time)")
    line.add_argument(
        "--out",
        type=cli.output_folder,
        metavar="DIR",
        help="migrate: where to write (default: replace what is in the folder); pictures: a new folder; from-onnx: "
        "exported/EXPERIMENT",
    )
    line.add_argument("--dataset", metavar="DATA", help="from-onnx: images to evaluate on, folder:PATH[@PIXELS] for your own")
    cli.add_data_root(line, "from-onnx: where a data set with a name is")
    cli.add_normalisation(line, only="from-onnx: ")
    line.add_argument("--name", help="from-onnx: folder of the bundle in the experiment (default: imported)")
    return line
