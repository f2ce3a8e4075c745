"""`python -m stimcore.convert`: make a run folder from a checkpoint of another program."""

from collections.abc import Sequence
from pathlib import Path

from stimcore import cli

if not cli.has_torch():
    cli.end_without_torch()

from stimcore.data.normalise import IMAGENET, Normalisation
from stimcore.errors import UsageError
from stimcore.runs import checkpoint
from stimcore.runs.convert import convert, image_format, read_weights


def parser() -> cli.Parser:
    """Return the parser of the command line."""
    line = cli.Parser(
        prog="python -m stimcore.convert",
        description="Make a run folder of an outside checkpoint: export, sweep and report then read it like a trained run.",
    )
    line.add_argument("checkpoint", metavar="CHECKPOINT", help="a file of weights, or torchvision's name: IMAGENET1K_V2")
    line.add_argument("--network", required=True, metavar="NAME", help="a name that 'python -m stimcore.nets' lists")
    line.add_argument("--run-dir", required=True, type=Path, metavar="DIR", help="run folder; must not hold a run yet")
    line.add_argument(
        "--dataset", metavar="DATA", help="images to evaluate on, folder:PATH[@PIXELS] for your own (CIFAR ResNets: cifar10)"
    )
    line.add_argument("--data-root", type=Path, metavar="DIR", help="where the data set is, or is downloaded to")
    for name, values, what in (("--mean", IMAGENET.mean, "subtracted from"), ("--std", IMAGENET.std, "divided out of")):
        line.add_argument(
            name, metavar="V,V,V", help=f"per channel, {what} pixels in [0, 1] (default, for colour: {_joined(values)})"
        )
    return line


def main(argv: Sequence[str]) -> int:
    """Convert one checkpoint; return the exit code."""
    options = parser().parse_args(argv)
    folder: Path = options.run_dir
    if (folder / "run.json").exists() or checkpoint.list_paths(folder):
        raise UsageError(f"{folder} already holds a run", todo="Give another folder with --run-dir.")
    images = image_format(options.network, options.dataset, options.data_root)
    normalisation = Normalisation(
        per_channel("--mean", options.mean, IMAGENET.mean, images.shape[0]),
        per_channel("--std", options.std, IMAGENET.std, images.shape[0]),
    )
    weights = read_weights(options.checkpoint, options.network)
    trained = convert(weights, options.network, images, normalisation, folder)
    mean, std = _joined(normalisation.mean), _joined(normalisation.std)
    shape = "x".join(map(str, images.shape))
    print(f"{folder}: {options.network} with {len(trained.net.module.state_dict())} tensors from {weights.source}")
    print(f"images: {images.dataset}, {shape}, {images.num_classes} classes, mean {mean}, std {std}")
    if weights.left_out:
        print(f"left out, as these are no weights: {', '.join(weights.left_out)}")
    return 0


def per_channel(option: str, text: str | None, default: Sequence[float], channels: int) -> tuple[float, ...]:
    """Return the numbers of `--mean` or `--std`, one per channel.

    Args:
        option: `--mean` or `--std`.
        text: Numbers between commas; None for the default.
        default: Numbers for images of three channels.
        channels: Number of channels.

    Raises:
        UsageError: There is not one finite number per channel, or a standard deviation is not above 0.

    Example:
        >>> per_channel("--mean", "0.5,0.4,0.3", IMAGENET.mean, 3)
        (0.5, 0.4, 0.3)
    """
    try:
        values = tuple(default) if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    # comparisons with NaN are false, so that NaN is refused here too
    if len(values) != channels or not all(abs(v) < 1e6 for v in values) or (option == "--std" and not min(values) > 0):
        raise UsageError(
            f"{option} {text or 'not given'} for images of {channels} channels",
            allowed=f"{channels} numbers between commas" + (", each more than 0" if option == "--std" else ""),
        )
    return values


def _joined(values: Sequence[float]) -> str:
    """Return numbers between commas."""
    return ",".join(f"{value:g}" for value in values)


if __name__ == "__main__":
    cli.run(main)
