"""The command line of `python -m stimcore.scan`: which network, on which images."""

from stimcore import cli
from stimcore.analysis.scan import EDIT_KINDS


def parser() -> cli.Parser:
    """Return the command line; a test compares its help text with a stored one."""
    line = cli.Parser(
        prog="python -m stimcore.scan",
        description="Find out which blocks a trained network needs: its loss of accuracy without each block, without two "
        "neighbours and with two blocks swapped, with and without re-calibrated batch norms, and how much each block changes "
        "what enters it. A scan that was stopped goes on when it is started again.",
    )
    line.add_argument(
        "network",
        metavar="NETWORK",
        help="a run folder, a bundle (exported/EXPERIMENT/METHOD), an ONNX file, or a name that 'python -m stimcore.nets' "
        "lists, MODULE:FUNCTION for your own",
    )
    line.add_argument(
        "--dataset", metavar="DATA", help="images of an ONNX file or of a network by name, folder:PATH[@PIXELS] for your own"
    )
    line.add_argument("--init", metavar="WEIGHTS", help="weights of a network by name: a run folder, a file, torchvision:NAME")
    cli.add_data_root(line)
    cli.add_normalisation(line)
    line.add_argument(
        "--edits",
        nargs="+",
        choices=EDIT_KINDS,
        default=list(EDIT_KINDS),
        metavar="KIND",
        help="deletion, pair, swap (default: all of them)",
    )
    line.add_argument("--images", type=int, metavar="N", help="evaluate on N images, the same share of every class")
    line.add_argument(
        "--out", type=cli.output_folder, metavar="DIR", help="folder for results and journal (default: scans/NAME)"
    )
    cli.add_device(line)
    cli.add_json(line, "also write the result as JSON to FILE")
    line.add_argument("--trust-code", action="store_true", help="import the modules that a run folder names")
    cli.add_quiet(line)
    return line
