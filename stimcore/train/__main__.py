"""`python -m stimcore.train`: train a recipe with a method into a run folder."""

import dataclasses
import re
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stimcore import cli
from stimcore.train.arguments import parser

if __name__ == "__main__":
    cli.answer_early(parser)

if not cli.has_torch():
    cli.end_without_torch()

from stimcore.errors import UsageError
from stimcore.methods.names import short_name
from stimcore.methods.stimulative import Stimulative
from stimcore.methods.table import make
from stimcore.nets.catalogue import is_own
from stimcore.recipes.catalogue import FINE_TUNING, recipe
from stimcore.recipes.file import base_of, read_recipe
from stimcore.recipes.recipe import LABELLED_SETTINGS, Recipe
from stimcore.runs.machine import describe, pick_device
from stimcore.subnets.families import count_ordered
from stimcore.train.init import origin
from stimcore.train.parallel import join, leave
from stimcore.train.precision import computes_in_bf16
from stimcore.train.progress import in_words
from stimcore.train.request import TrainRequest, default_name, with_true_label
from stimcore.train.settings import Settings
from stimcore.train.train_run import TrainListener, load_dataset, train_run
from stimcore.train.trainer import Trainer

__all__ = ["main", "parser"]

OVERRIDES = (*LABELLED_SETTINGS, "evaluate_every", "watch", "watch_every", "watch_images")
"""Settings of a recipe that have an option on the command line."""
ADAMW_WARNS_FROM = 0.02
"""Learning rates from which on AdamW is probably given a rate that was chosen for SGD."""
MOST_PRINTED = 6
"""Watched sub-networks in a printed line; the record has all of them."""


def main(argv: Sequence[str]) -> int:
    """Train every run that the command line asks for; return the exit code."""
    line = parser()
    options = line.parse_args(argv)
    if options.recipe is None and options.recipe_file is None:
        line.error("the following arguments are required: RECIPE or --recipe")
    original = _fine_tuned(options, _original(options))
    changed = original.with_changes({key: getattr(options, key) for key in OVERRIDES})
    if options.ema and options.init is None:
        raise UsageError("--ema without --init", allowed="--ema to start from averaged weights in the file of --init")
    if changed.optimizer == "adamw" and changed.learning_rate >= ADAMW_WARNS_FROM:
        rate = f"a learning rate of {changed.learning_rate:g}"
        Printer().warn(f"{rate} is one for SGD; AdamW is used with about 0.001 (--learning-rate 0.001).")
    if options.weights is not None and options.method != "stimulative":
        raise UsageError(f"--lambda with the method {options.method}", allowed="stimulative")
    names = Counter(f"{weight:g}" for weight in options.weights or ())  # as they stand in the names of runs
    if twice := [name for name, number in names.items() if number > 1]:
        raise UsageError(f"--lambda {twice[0]} twice", allowed="every lambda once, with up to six digits")
    if options.weights is not None and "weight" in parse_options(options.option):
        raise UsageError("--lambda and --option weight", allowed="one of the two: both are lambda")
    if options.name is not None and (options.name.startswith(".") or Path(options.name).name != options.name):
        raise UsageError(f"--name '{options.name}'", allowed="letters, digits, dots and dashes, not beginning with a dot")
    device = pick_device(options.device)
    if changed.precision == "bf16" and not computes_in_bf16(device):
        Printer().warn("this processor has no instructions for bf16 and emulates it, which takes longer than --precision fp32.")
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
        requests = list(_requests(options, original, changed, settings))
        dataset = load_dataset(requests[0])  # the runs differ in lambda only
        if world.rank == 0:
            for note in dataset.notes:
                print(f"note: {note}")
        for request in requests:
            train_run(request, dataset, Printer())
    finally:
        leave()
    return 0


def _original(options: Namespace) -> Recipe:
    """Return the recipe that the command line names, before its changes.

    Raises:
        UsageError: There is no such recipe, two are named, or the file can't be used.
    """
    if options.recipe_file is None:
        return recipe(options.recipe)
    if options.recipe is not None:
        raise UsageError(f"two recipes, {options.recipe} and {options.recipe_file}", allowed="RECIPE or --recipe FILE.toml")
    original = read_recipe(options.recipe_file)
    for method, values in original.options.items():
        make(method, values)  # refuses what the method does not have, also when another method is trained
    return original


def _fine_tuned(options: Namespace, original: Recipe) -> Recipe:
    """Return a recipe for fine-tuning with network, data set and spec of the run or bundle of `--init`; any other as it is.

    What a file on top of such a recipe says itself holds.

    Raises:
        UsageError: There is no `--init`, or it names a network of the user, whose code must be named on the command line.
    """
    base, written = (original.name, frozenset[str]()) if options.recipe_file is None else base_of(options.recipe_file)
    if base not in FINE_TUNING:
        return original
    if options.init is None:
        raise UsageError(f"{original.name} without --init", allowed="--init with a run folder, a bundle or a file of weights")
    start = origin(options.init)
    if start is None:
        return original
    if is_own(start.network) and options.network is None:
        raise UsageError(
            f"{options.init} names the network '{start.network}', whose code would be run",
            todo=f"Add --network {start.network} if the folder and this module are yours.",
        )
    options.spec = options.spec or start.spec
    options.data_root = options.data_root or (None if start.data_root is None else Path(start.data_root))
    own = {key: getattr(original, key) for key in written if key not in ("name", "label")}
    return dataclasses.replace(start.applied(original), **own)


def _requests(options: Namespace, original: Recipe, changed: Recipe, settings: Settings) -> Iterator[TrainRequest]:
    """Yield one run, or one per lambda."""
    given = dict(changed.options.get(options.method, {})) | parse_options(options.option)
    base = options.name or (f"twin-{options.spec}" if options.spec else short_name(options.method))
    init = None if options.init is None else f"init={_weights_name(options.init)}"
    differing = [*options.option, *([] if init is None else [init])]
    name = options.name or default_name(base, differing, changed, original)
    finished = options.name or default_name(base, differing, dataclasses.replace(changed, epochs=original.epochs), original)
    for weight in options.weights or [None]:
        method_options = given if weight is None else given | {"weight": weight}
        suffix = "" if weight is None else f"-lambda{weight:g}"
        end = suffix + ("-holdout" if options.holdout else "")
        folder = options.run_dir or Path("runs") / changed.experiment / f"{name}{end}-{options.seed}"
        run_name = name + end
        if options.resume and not folder.exists():
            # a finished run that goes on stays in its folder, whose name has the number of epochs only if they were changed
            whole = folder.with_name(f"{finished}{end}-{options.seed}")
            earlier = _of_fewer_epochs(folder, changed.epochs)
            if whole.exists():
                folder, run_name = whole, finished + end
            elif earlier is not None:
                folder, run_name = earlier, earlier.name.removesuffix(f"-{options.seed}")
        if options.run_dir and len(options.weights or []) > 1:
            folder = options.run_dir / (base + suffix)
        yield TrainRequest(
            recipe=with_true_label(changed, options.method, method_options, options.init),
            method=options.method,
            options=method_options,
            folder=folder,
            name=run_name,
            spec=options.spec,
            init=options.init,
            averaged=options.ema,
            resume=options.resume,
            strict_watch=options.watch is not None,
            data_root=options.data_root,
            settings=settings,
        )


def _of_fewer_epochs(folder: Path, epochs: int) -> Path | None:
    """Return the folder of the run that was asked for with the most, and fewer, epochs and is otherwise called the same."""
    asked = f"-epochs{epochs}-"
    if asked not in folder.name:
        return None
    before, _, after = folder.name.partition(asked)
    pattern = re.compile(re.escape(before) + r"-epochs([0-9]+)-" + re.escape(after))
    found = [(int(match[1]), path) for path in folder.parent.glob("*") if (match := pattern.fullmatch(path.name))]
    return max((entry for entry in found if entry[0] < epochs), default=(0, None))[1]


def _weights_name(init: str) -> str:
    """Return what weights are called in the name of a run: a file without its suffix, a folder as it is."""
    path = Path(init)
    return path.name if path.is_dir() else Path(init.rpartition(":")[2]).stem


class Printer(TrainListener):
    """Prints the events of a run: warnings on standard error, the rest on standard output."""

    def warn(self, message: str) -> None:
        """Print a warning."""
        print(f"warning: {message}", file=sys.stderr)

    def note(self, message: str) -> None:
        """Print what the run starts from, or how it goes on."""
        print(message)

    def start(self, request: TrainRequest, trainer: Trainer) -> None:
        """Print what is trained, where, and how many epochs are left."""
        epochs, machine = request.recipe.epochs, describe(request.settings.device)["device"]
        print(
            f"{request.recipe.name}, {request.method}: {epochs - trainer.epoch} of {epochs} epochs to go on {machine}; "
            f"run folder {request.folder}"
        )
        if request.spec is not None and request.init is None and request.method != "common":
            # the run is called a twin whatever its method, and every loafing gap takes it for one
            self.warn(
                f"the twin {request.spec} is trained with {request.method}; loafing gaps are those to twins of common "
                "training: --method common."
            )
        method = trainer.method
        if isinstance(method, Stimulative) and method.sample == "ordered" and count_ordered(trainer.net.topology) == 1:
            self.warn(
                f"{request.spec or request.recipe.network} has no ordered sub-network besides itself: {request.method} "
                "training of it is common training."
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

    A value is a number, `true` or `false`, numbers between commas (a comma at the end adds nothing), or a word.

    Raises:
        UsageError: A text has no equals sign.

    Example:
        >>> parse_options(["max_skipped=0,1,2", "two_forward=true", "weight=0.5"])
        {'max_skipped': (0, 1, 2), 'two_forward': True, 'weight': 0.5}
        >>> parse_options(["max_skipped=1,"])
        {'max_skipped': (1,)}
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
        return tuple(_parse_value(part) for part in text.removesuffix(",").split(","))
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
