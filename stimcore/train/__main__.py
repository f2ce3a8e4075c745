"""`python -m stimcore.train`: train a recipe with a method into a run folder."""

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stimcore import cli

if not cli.has_torch():
    cli.end_without_torch()

from stimcore.errors import UsageError
from stimcore.methods.table import METHODS
from stimcore.recipes.catalogue import RECIPES, recipe
from stimcore.recipes.recipe import LABELLED_SETTINGS, Recipe
from stimcore.runs.machine import describe, pick_device
from stimcore.train.parallel import join, leave
from stimcore.train.progress import in_words
from stimcore.train.request import TrainRequest, default_name, with_true_label
from stimcore.train.settings import Settings
from stimcore.train.train_run import TrainListener, load_dataset, train_run
from stimcore.train.trainer import Trainer

OVERRIDES = (*LABELLED_SETTINGS, "evaluate_every", "watch", "watch_every", "watch_images")
"""Settings of a recipe that have an option on the command line."""
MOST_PRINTED = 6
"""Watched sub-networks in a printed line; the record has all of them."""


def parser() -> cli.Parser:
    """Return the parser of the command line; a test freezes its help text."""
    line = cli.Parser(prog="python -m stimcore.train", description="Train a network; the result is a run folder.")
    line.add_argument("recipe", metavar="RECIPE", help="one of: " + ", ".join(RECIPES))
    line.add_argument("--method", default="stimulative", help="one of: " + ", ".join(METHODS) + " (default: %(default)s)")
    line.add_argument(
        "--lambda",
        dest="weights",
        type=float,
        nargs="+",
        metavar="L",
        help="lambda of stimulative training; several values train one run each",
    )
    line.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the method; can be given several times",
    )
    line.add_argument("--spec", help="train this sub-network alone (a twin), for example d1-1-1")
    line.add_argument("--seed", type=int, default=0, help="seed of everything random (default: %(default)s)")
    line.add_argument(
        "--name", help="name of the run in its experiment (default: the method and everything that differs from the recipe)"
    )
    line.add_argument("--run-dir", type=Path, metavar="DIR", help="run folder (default: runs/EXPERIMENT/NAME-SEED)")
    line.add_argument("--resume", action="store_true", help="continue from the newest checkpoint in the run folder")
    line.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    line.add_argument("--epochs", type=int, metavar="N", help="epochs, instead of the recipe's")
    line.add_argument("--batch-size", type=int, metavar="N", help="images per step over all processes, instead of the recipe's")
    line.add_argument("--learning-rate", type=float, metavar="RATE", help="peak learning rate, instead of the recipe's")
    line.add_argument("--precision", choices=["fp32", "bf16", "fp16"], help="number format, instead of the recipe's")
    line.add_argument("--dataset", help="data set, instead of the recipe's; folder:PATH[@PIXELS] for your images")
    line.add_argument("--network", help="network, instead of the recipe's")
    line.add_argument(
        "--train-per-class", type=int, metavar="N", help="training images per class, instead of the recipe's; 0 for all"
    )
    line.add_argument(
        "--holdout", action="store_true", help="evaluate on other training images, the same number, instead of the test images"
    )
    line.add_argument("--evaluate-every", type=int, metavar="N", help="epochs between evaluations, instead of the recipe's")
    line.add_argument(
        "--watch",
        nargs="*",
        metavar="WHICH",
        help="sub-networks to measure during training, instead of the recipe's: smallest, half, ordered or specs; empty: none",
    )
    line.add_argument(
        "--watch-every",
        type=int,
        metavar="N",
        help="epochs between measurements of watched sub-networks, instead of the recipe's",
    )
    line.add_argument(
        "--watch-images", type=int, metavar="N", help="test images for watched sub-networks, instead of the recipe's"
    )
    line.add_argument(
        "--data-root", type=Path, metavar="DIR", help="folder that holds the data set, or into which it is downloaded"
    )
    line.add_argument("--compile", action="store_true", help="compile every block with torch.compile")
    line.add_argument("--sync-norms", action="store_true", help="share batch-norm statistics between processes (CUDA)")
    line.add_argument(
        "--workers", type=int, default=2, metavar="N", help="processes that read image files (default: %(default)s)"
    )
    line.add_argument(
        "--tensorboard", action="store_true", help="also write event files for TensorBoard, which must be installed"
    )
    line.add_argument("--quiet", action="store_true", help="draw no progress bar")
    return line


def main(argv: Sequence[str]) -> int:
    """Train every run that the command line asks for; return the exit code."""
    options = parser().parse_args(argv)
    changed = recipe(options.recipe).with_changes({key: getattr(options, key) for key in OVERRIDES})
    if options.weights is not None and options.method != "stimulative":
        raise UsageError(f"--lambda with the method {options.method}", allowed="stimulative")
    if options.name is not None and (options.name.startswith(".") or Path(options.name).name != options.name):
        raise UsageError(f"--name '{options.name}'", allowed="letters, digits, dots and dashes, not beginning with a dot")
    device = pick_device(options.device)
    world = join(device)
    try:
        settings = Settings(
            seed=options.seed,
            device=world.local_device(device),
            world=world,
            progress=not options.quiet and sys.stderr.isatty(),
            compile_blocks=options.compile,
            synchronise_norms=options.sync_norms,
            workers=options.workers,
            tensorboard=options.tensorboard,
            holdout=options.holdout,
        )
        requests = list(_requests(options, changed, settings))
        dataset = load_dataset(requests[0])  # the runs differ in lambda only
        for request in requests:
            train_run(request, dataset, Printer())
    finally:
        leave()
    return 0


def _requests(options: Namespace, changed: Recipe, settings: Settings) -> Iterator[TrainRequest]:
    """Yield one run, or one per lambda."""
    given = dict(changed.options.get(options.method, {})) | parse_options(options.option)
    base = options.name or (f"twin-{options.spec}" if options.spec else options.method)
    name = options.name or default_name(base, options.option, changed, recipe(options.recipe))
    for weight in options.weights or [None]:
        method_options = given if weight is None else given | {"weight": weight}
        suffix = "" if weight is None else f"-lambda{weight:g}"
        run_name = name + suffix + ("-holdout" if options.holdout else "")
        folder = options.run_dir or Path("runs") / changed.experiment / f"{run_name}-{options.seed}"
        if options.run_dir and len(options.weights or []) > 1:
            folder = options.run_dir / (base + suffix)
        yield TrainRequest(
            recipe=with_true_label(changed, options.method, method_options),
            method=options.method,
            options=method_options,
            folder=folder,
            name=run_name,
            spec=options.spec,
            resume=options.resume,
            strict_watch=options.watch is not None,
            data_root=options.data_root,
            settings=settings,
        )


class Printer(TrainListener):
    """Prints the events of a run: warnings on standard error, the rest on standard output."""

    def warn(self, message: str) -> None:
        """Print a warning."""
        print(f"warning: {message}", file=sys.stderr)

    def start(self, request: TrainRequest, trainer: Trainer) -> None:
        """Print what is trained, where, and how many epochs are left."""
        epochs, machine = request.recipe.epochs, describe(request.settings.device)["device"]
        print(
            f"{request.recipe.name}, {request.method}: {epochs - trainer.epoch} of {epochs} epochs to go on {machine}; "
            f"run folder {request.folder}"
        )

    def epoch(self, record: dict[str, Any], trainer: Trainer) -> None:
        """Print the losses, accuracies and speed of an epoch, and the time left."""
        part = trainer.settings.evaluated_part
        words = [f"epoch {record['epoch']}/{trainer.recipe.epochs}"]
        words += [f"{name} {value:.4f}" for name, value in record["losses"].items()]
        words += [f"{part} {record[part]['accuracy_pct']:.2f}%"] if part in record else []
        watched = record.get("watched", [])
        words += [f"{subnet['name']} {subnet['accuracy_pct']:.1f}%" for subnet in watched[:MOST_PRINTED]]
        words += [f"and {len(watched) - MOST_PRINTED} more"] if len(watched) > MOST_PRINTED else []
        words.append(f"{record['images_per_second']:.0f} images/s")
        if (seconds := trainer.time_left.after(record["epoch"])) is not None:
            words.append(in_words(seconds))
        print("  ".join(words), flush=True)


def parse_options(items: Sequence[str]) -> dict[str, Any]:
    """Return the options of a method from `NAME=VALUE` texts.

    A value is a number, `true` or `false`, numbers between commas, or a word.

    Raises:
        UsageError: A text has no equals sign.

    Example:
        >>> parse_options(["max_skipped=0,1,2", "two_forward=true", "weight=0.5"])
        {'max_skipped': (0, 1, 2), 'two_forward': True, 'weight': 0.5}
    """
    options: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals:
            raise UsageError(f"--option {item}", allowed="NAME=VALUE")
        options[name] = _parse_value(text)
    return options


def _parse_value(text: str) -> Any:
    """Return the value of one option."""
    if "," in text:
        return tuple(_parse_value(part) for part in text.split(","))
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


if __name__ == "__main__":
    cli.run(main)
