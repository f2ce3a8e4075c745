"""`python -m stimcore.train`: trains a recipe with a method into a run folder."""

import dataclasses
import os
import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from stimcore import cli
from stimcore.data.images import Dataset
from stimcore.data.sources import load
from stimcore.data.subset import reduce_dataset
from stimcore.errors import UsageError
from stimcore.methods.base import Method
from stimcore.methods.table import METHODS, make, restored
from stimcore.nets.catalogue import build
from stimcore.nets.cut import cut
from stimcore.recipes.catalogue import RECIPES, recipe
from stimcore.recipes.recipe import REDUCED, Recipe
from stimcore.runs import checkpoint
from stimcore.runs.machine import describe
from stimcore.runs.run import Run, images_of, only_writer, recipe_of
from stimcore.train.parallel import World, join, leave
from stimcore.train.precision import pick_device
from stimcore.train.progress import in_words
from stimcore.train.seeds import layers_seeded
from stimcore.train.trainer import Settings, Trainer, trim_records
from stimcore.train.watch import those_that_exist

PROMISED = ("epochs", "batch_size", "learning_rate", "precision", "dataset", "network", "train_per_class")
"""Settings that a recipe's label promises, each with an option of the command line."""
OBSERVING = ("evaluate_every", "watch", "watch_every", "watch_images")
"""Settings that change what is recorded and nothing of the training."""
SHORT = {
    "epochs": "epochs",
    "batch_size": "batch",
    "learning_rate": "rate",
    "precision": "",
    "train_per_class": "perclass",
}
"""Settings that stand in the default name of a run where they differ from the recipe's, and their words there."""
MOST_SHOWN = 6
"""Watched sub-networks in the printed line; the record has all."""


def parser() -> cli.Parser:
    """The command line; its help text is frozen by a test."""
    line = cli.Parser(prog="python -m stimcore.train", description="Train a network; the result is a run folder.")
    line.add_argument("recipe", metavar="RECIPE", help="one of: " + ", ".join(RECIPES))
    line.add_argument("--method", default="stimulative", help="one of: " + ", ".join(METHODS) + " (default: %(default)s)")
    line.add_argument(
        "--lambda", dest="weights", type=float, nargs="+", metavar="L", help="lambda of stimulative; several: a run each"
    )
    line.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the method; may be repeated"
    )
    line.add_argument("--spec", help="train this sub-network alone (a twin), e.g. d1-1-1")
    line.add_argument("--seed", type=int, default=0, help="seed of everything random (default: %(default)s)")
    line.add_argument(
        "--name", help="what the run is called in its experiment (default: the method, and what differs from the recipe)"
    )
    line.add_argument("--run-dir", type=Path, metavar="DIR", help="run folder (default: runs/EXPERIMENT/NAME-SEED)")
    line.add_argument("--resume", action="store_true", help="continue from the newest checkpoint in the run folder")
    line.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    line.add_argument("--epochs", type=int, help="instead of the recipe's")
    line.add_argument("--batch-size", type=int, help="instead of the recipe's; all processes together")
    line.add_argument("--learning-rate", type=float, help="instead of the recipe's peak rate")
    line.add_argument("--precision", choices=["fp32", "bf16", "fp16"], help="instead of the recipe's")
    line.add_argument("--dataset", help="instead of the recipe's; folder:PATH[@PIXELS] for your own images")
    line.add_argument("--network", help="instead of the recipe's")
    line.add_argument(
        "--train-per-class", type=int, metavar="N", help="train on so many images per class instead of the recipe's; 0: on all"
    )
    line.add_argument(
        "--holdout", action="store_true", help="evaluate on as many other training images instead of on the test images"
    )
    line.add_argument("--evaluate-every", type=int, metavar="N", help="epochs between evaluations, instead of the recipe's")
    line.add_argument(
        "--watch",
        nargs="*",
        metavar="WHICH",
        help="sub-networks to follow: smallest, half, ordered, or specs, instead of the recipe's; nothing: none",
    )
    line.add_argument(
        "--watch-every", type=int, metavar="N", help="epochs between measurements of these (default: the recipe's)"
    )
    line.add_argument("--watch-images", type=int, metavar="N", help="test images for these, instead of the recipe's")
    line.add_argument("--data-root", type=Path, metavar="DIR", help="where the data set is, or is downloaded to")
    line.add_argument("--compile", action="store_true", help="send every block through torch.compile")
    line.add_argument("--sync-norms", action="store_true", help="batch norms share statistics between processes (CUDA)")
    line.add_argument("--workers", type=int, default=2, metavar="N", help="processes that read images (default: %(default)s)")
    line.add_argument("--tensorboard", action="store_true", help="write event files too (needs tensorboard)")
    line.add_argument("--quiet", action="store_true", help="no progress bar")
    return line


def main(argv: Sequence[str]) -> int:
    """Trains; returns the exit code."""
    options = parser().parse_args(argv)
    plan = _adjusted(recipe(options.recipe), options)
    if options.weights is not None and options.method != "stimulative":
        raise UsageError(f"--lambda with the method {options.method}", allowed="stimulative")
    if options.name is not None and (options.name.startswith(".") or Path(options.name).name != options.name):
        raise UsageError(f"--name '{options.name}'", allowed="letters, digits, dots and dashes, not beginning with a dot")
    device = pick_device(options.device)
    world = join(device)
    try:
        _train(plan, options, device, world)
    finally:
        leave()
    return 0


def _train(plan: Recipe, options: Any, device: torch.device, world: World) -> None:
    """Trains every run that was asked for."""
    if device.type == "cuda" and world.size > 1:
        device = torch.device("cuda", world.local_rank)
    torch.set_flush_denormal(True)
    dataset = reduce_dataset(load(plan.dataset, options.data_root), plan.train_per_class, holdout=options.holdout)
    settings = Settings(
        seed=options.seed,
        device=device,
        world=world,
        progress=not options.quiet and sys.stderr.isatty(),
        compile_blocks=options.compile,
        synchronise_norms=options.sync_norms,
        workers=options.workers,
        tensorboard=options.tensorboard,
        holdout=options.holdout,
    )
    usual = dict(plan.options.get(options.method, {}))
    given = usual | _options(options.option)
    for weight in options.weights or [None]:
        method = make(options.method, given if weight is None else given | {"weight": weight})
        # the label promises the recipe's own settings, those of the method among them
        labelled = plan if method == make(options.method, usual) else dataclasses.replace(plan, label=REDUCED)
        suffix = "" if weight is None else f"-lambda{weight:g}"
        name = _name(options, plan) + suffix + ("-holdout" if options.holdout else "")
        run_dir = options.run_dir or Path("runs") / plan.experiment / f"{name}-{options.seed}"
        if options.run_dir and len(options.weights or []) > 1:
            run_dir = options.run_dir / (_base(options) + suffix)
        _one(labelled, method, dataset, settings, run_dir, name, options)


def _base(options: Any) -> str:
    """What a run is called without what differs from its recipe."""
    return str(options.name or (f"twin-{options.spec}" if options.spec else options.method))


def _name(options: Any, plan: Recipe) -> str:
    """What a run is called: `--name`, or the method (the twin) with everything that differs from the recipe."""
    if options.name:
        return str(options.name)
    usual = recipe(options.recipe)
    parts = [_base(options), *(re.sub(r"[^\w.,-]+", "-", item) for item in sorted(options.option))]
    for key, word in SHORT.items():
        value = getattr(plan, key)
        if value != getattr(usual, key):
            parts.append(f"{word}{'all' if value is None else value}")
    return "-".join(parts)


def _one(plan: Recipe, method: Method, dataset: Dataset, settings: Settings, run_dir: Path, name: str, options: Any) -> None:
    """Trains one run, from its start or from its newest checkpoint.

    Args:
        plan: The recipe with what was changed on the command line.
        method: With its options.
        dataset: The images that are trained and evaluated on.
        settings: Seed, device, processes.
        run_dir: Where the run goes.
        name: What it is called in its experiment.
        options: The command line: method, spec, resume, data root and what is watched.
    """
    spec: str | None = options.spec
    with layers_seeded(settings.seed, "weights"):
        net = build(plan.network, input_shape=dataset.image_shape, num_classes=len(dataset.classes))
    if spec is not None:
        wanted = net.topology.parse(spec)
        spec = str(wanted)
        with layers_seeded(settings.seed, "weights"):
            net = cut(build(plan.network, input_shape=dataset.image_shape, num_classes=len(dataset.classes)), wanted)
    if options.watch is None:  # the recipe's specs were chosen for its own network
        plan = dataclasses.replace(plan, watch=those_that_exist(net.topology, plan.watch))
    asked = Run(
        network=plan.network,
        input_shape=dataset.image_shape,
        num_classes=len(dataset.classes),
        method=options.method,
        seed=settings.seed,
        dataset=plan.dataset,
        mean=dataset.mean,
        std=dataset.std,
        spec=spec,
        options=dataclasses.asdict(method),  # type: ignore[call-overload]  # every method is a dataclass
        recipe=plan.to_dict(),
        data_root=None if options.data_root is None else str(options.data_root),
        machine=describe(settings.device),
        name=name,
        holdout=options.holdout,
        images=images_of(dataset),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    trainer = Trainer(net, method, plan, dataset, settings)
    first = settings.world.rank == 0
    if first:
        run_dir.mkdir(parents=True, exist_ok=True)
    settings.world.barrier()
    with only_writer(run_dir) if first else nullcontext():
        _start_or_resume(trainer, asked, run_dir, options.resume, settings.world)
        if first:
            where = describe(settings.device)["device"]
            left = plan.epochs - trainer.epoch
            print(f"{plan.name}, {options.method}: {left} of {plan.epochs} epochs to go on {where}; run folder {run_dir}")
        for row in trainer.run(run_dir):
            if first:
                _tell(row, trainer)


def _start_or_resume(trainer: Trainer, asked: Run, run_dir: Path, resume: bool, world: World) -> None:
    found = checkpoint.newest(run_dir) if resume else None
    if not resume and checkpoint.listed(run_dir):
        raise UsageError(
            f"{run_dir} already holds a run", todo="Add --resume to continue it, or give another folder with --run-dir."
        )
    if found is not None:
        path, state, complaints = found
        if differing := _differences(Run.read(run_dir), asked):
            raise UsageError(
                f"{run_dir} was started with other settings: {'; '.join(differing)}",
                todo="Give the old ones to continue it, or another folder with --run-dir (another --name).",
            )
        for complaint in complaints if world.rank == 0 else []:
            print(f"warning: {complaint} Continuing from {path.name}.", file=sys.stderr)
        trainer.resume(state, str(path))
    if world.rank == 0:
        trim_records(run_dir, trainer.epoch)
        if found is None:
            asked.write(run_dir)
    world.barrier()


def _differences(before: Run, now: Run) -> list[str]:
    """The settings in which two runs differ, each with its old and its new value."""
    if before.method != now.method:  # the options of two methods can't be compared
        return [f"method was {before.method}, is now {now.method}"]
    flat = [_settings(run) for run in (before, now)]
    for key in ("train_sha256", "evaluation_sha256"):
        if before.images.get(key) and now.images.get(key):  # older runs have none
            for values, run in zip(flat, (before, now), strict=True):
                values[f"images ({key})"] = run.images[key]
    return [
        f"{key} was {_shown(flat[0].get(key))}, is now {_shown(flat[1].get(key))}"
        for key in flat[0] | flat[1]
        if flat[0].get(key) != flat[1].get(key)
    ]


def _settings(run: Run) -> dict[str, Any]:
    """What must be the same for a run to go on, by the words of the command line where it has some."""
    options = dict(run.options)
    if run.method in METHODS:  # options that are newer than the run have the value that they had then
        options = dataclasses.asdict(restored(run.method, options))  # type: ignore[call-overload]  # every method is a dataclass
    plan = recipe_of(run).to_dict()
    # what a recipe says of other methods, and the label, follow from the rest
    plan = {key: value for key, value in plan.items() if key not in ("options", "label")}
    rest = {"spec": run.spec, "seed": run.seed, "holdout": run.holdout}
    settings = {"recipe" if key == "name" else key: value for key, value in plan.items()} | options | rest
    return {key: _plain(value) for key, value in settings.items()}


def _shown(value: Any) -> str:
    """A setting as the command line writes it."""
    if isinstance(value, list):
        return " ".join(map(str, value)) or "nothing"
    return "not set" if value is None else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _tell(row: dict[str, Any], trainer: Trainer) -> None:
    losses = [f"{name} {value:.4f}" for name, value in row["losses"].items()]
    measured = [f"{trainer.part} {row[trainer.part]['accuracy_pct']:.2f}%"] if trainer.part in row else []
    fan = row.get("watched", [])
    measured += [f"{one['name']} {one['accuracy_pct']:.1f}%" for one in fan[:MOST_SHOWN]]
    if len(fan) > MOST_SHOWN:
        measured.append(f"and {len(fan) - MOST_SHOWN} more")
    left = trainer.time_left.after(row["epoch"])
    rest = [f"{row['images_per_second']:.0f} images/s", *([in_words(left)] if left is not None else [])]
    print("  ".join([f"epoch {row['epoch']}/{trainer.recipe.epochs}", *losses, *measured, *rest]), flush=True)


def _adjusted(plan: Recipe, options: Any) -> Recipe:
    """The recipe with what the command line says instead; the label is lost with the settings that it promises."""
    changes = {
        key: getattr(options, key) for key in (*PROMISED, *OBSERVING) if getattr(options, key) not in (None, getattr(plan, key))
    }
    if changes.get("train_per_class") == 0:
        changes["train_per_class"] = None
    if "watch" in changes:
        changes["watch"] = tuple(changes["watch"])
    if "dataset" in changes or "network" in changes:
        name = changes.get("dataset", plan.dataset).removeprefix("folder:").partition("@")[0]
        changes["experiment"] = f"{changes.get('network', plan.network)}-{os.path.basename(name.rstrip('/'))}"
    if any(key in changes and changes[key] != getattr(plan, key) for key in PROMISED):
        changes["label"] = REDUCED
    return dataclasses.replace(plan, **changes)


def _options(items: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` with a number, `true`/`false`, or numbers between commas."""
    found: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals:
            raise UsageError(f"--option {item}", allowed="NAME=VALUE")
        found[name] = _value(text)
    return found


def _value(text: str) -> Any:
    if "," in text:
        return tuple(_value(part) for part in text.split(","))
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
