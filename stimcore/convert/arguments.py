"""The command line of `python -m stimcore.convert`: from a checkpoint to a run folder, or back."""

from collections.abc import Sequence

from stimcore import cli
from stimcore.data.normalise import IMAGENET


def parser() -> cli.Parser:
    """Return the parser of the command line."""
    line = cli.Parser(
        prog="python -m stimcore.convert",
        description="Make a run folder of an outside checkpoint: export, sweep and report then read it like a trained run. "
        "With --to, write the weights of a run folder as one file for other programs.",
    )
    line.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a file of weights (PyTorch or safetensors), torchvision's name such as IMAGENET1K_V2, or with --to a run folder",
    )
    line.add_argument("--network", metavar="NAME", help="a name that 'python -m stimcore.nets' lists, or MODULE:FUNCTION")
    line.add_argument("--run-dir", type=cli.output_folder, metavar="DIR", help="run folder; must not hold a run yet")
    line.add_argument(
        "--ema", action="store_true", help="take the average of the weights over the steps, which the file also has"
    )
    line.add_argument(
        "--to",
        type=cli.output_file,
        metavar="FILE",
        help="write the newest weights of a run folder as FILE.safetensors or FILE.pt",
    )
    line.add_argument(
        "--dataset", metavar="DATA", help="images to evaluate on, folder:PATH[@PIXELS] for your own (CIFAR ResNets: cifar10)"
    )
    cli.add_data_root(line, "where the data set is, or is downloaded to")
    cli.add_normalisation(line, mean=joined(IMAGENET.mean), std=joined(IMAGENET.std))
    return line


def joined(values: Sequence[float]) -> str:
    """Return numbers between commas."""
    return ",".join(f"{value:g}" for value in values)
