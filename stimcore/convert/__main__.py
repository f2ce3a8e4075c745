"""`python -m stimcore.convert`: make a run folder of an outside checkpoint, or a file of weights of a run folder."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from stimcore import cli
from stimcore.convert.arguments import joined, parser

if __name__ == "__main__":
    cli.answer_early(parser)

if not cli.has_torch():
    cli.end_without_torch()

from stimcore.data.normalise import IMAGENET, Normalisation, per_channel
from stimcore.errors import UsageError
from stimcore.runs import checkpoint
from stimcore.runs.convert import Converted, about, convert, image_format, read_weights, write_weights
from stimcore.runs.trained_run import shortened

__all__ = ["main", "parser"]


def main(argv: Sequence[str]) -> int:
    """Convert one checkpoint; return the exit code."""
    options = parser().parse_args(argv)
    if options.to is not None:
        if options.network or options.run_dir:
            raise UsageError("--to with --network or --run-dir", allowed="a run folder and --to alone")
        source = Path(options.checkpoint)
        write_weights(source, options.to)
        print(f"{options.to}: the weights of {source}")
        return 0
    if options.network is None or options.run_dir is None:
        raise UsageError("no --network or no --run-dir", allowed="both for a checkpoint, or --to FILE for a run folder")
    folder: Path = options.run_dir
    # a conversion that was killed before it wrote run.json has left nothing but this
    left = folder / "checkpoint-0000.pt"
    if (folder / "run.json").exists() or set(checkpoint.list_paths(folder)) - {left}:
        raise UsageError(f"{folder} already holds a run", todo="Give another folder with --run-dir.")
    images = image_format(options.network, options.dataset, options.data_root)
    normalisation = Normalisation(
        per_channel("--mean", options.mean, IMAGENET.mean, images.shape[0]),
        per_channel("--std", options.std, IMAGENET.std, images.shape[0]),
    )
    weights = read_weights(options.checkpoint, options.network, averaged=options.ema)
    converted = convert(weights, options.network, images, normalisation, folder)
    mean, std = joined(normalisation.mean), joined(normalisation.std)
    shape = "x".join(map(str, images.shape))
    count = len(converted.trained.net.module.state_dict())
    print(f"{folder}: {options.network} with {count} tensors from {weights.source}")
    print(f"images: {images.dataset}, {shape}, {images.num_classes} classes, mean {mean}, std {std}")
    for note in images.notes:
        print(f"note: {note}")
    for line in (*about(weights), *_about_fit(converted)):
        print(line)
    return 0


def _about_fit(converted: Converted) -> Iterator[str]:
    """Yield a line for everything that the file and the network don't have in common."""
    if converted.outside:
        yield f"left out, as these keys lie outside of the network: {shortened(converted.outside)}"
    if converted.counted_anew:
        yield f"missing in the file and set to 0: num_batches_tracked of {converted.counted_anew} batch norms"
    if converted.without_statistics:
        yield (
            f"missing in the file: the statistics of all {len(converted.without_statistics)} batch norms; exports and sweeps "
            "measure them on training images"
        )


if __name__ == "__main__":
    cli.run(main)
