"""`python -m stimcore.train`: trains a recipe with a method into a run folder."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from stimcore import cli
from stimcore.data.images import Dataset
from stimcore.data.sources import load
from stimcore.errors import UsageError
from stimcore.methods.base import Method
from stimcore.methods.table import METHODS, make
from stimcore.nets.catalogue import build
from stimcore.nets.cut import cut
from stimcore.recipes.recipe import RECIPES, Recipe, recipe
from stimcore.runs import checkpoint
from stimcore.runs.machine import describe
from stimcore.runs.run import Run
from stimcore.train.parallel import World, join, leave
from stimcore.train.precision import pick_device
from stimcore.train.seeds import layers_seeded
from stimcore.train.trainer import Settings, Trainer, trim_records


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
    line.add_argument("--run-dir", type=Path, metavar="DIR", help="run folder (default: runs/EXPERIMENT/METHOD-SEED)")
    line.add_argument("--resume", action="store_true", help="continue from the newest checkpoint in the run folder")
    line.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    line.add_argument("--epochs", type=int, help="instead of the recipe's")
    line.add_argument("--batch-size", type=int, help="instead of the recipe's; all processes together")
    line.add_argument("--learning-rate", type=float, help="instead of the recipe's peak rate")
    line.add_argument("--precision", choices=["fp32", "bf16", "fp16"], help="instead of the recipe's")
    line.add_argument("--dataset", help="instead of the recipe's; folder:PATH[@PIXELS] for your own images")
    line.add_argument("--network", help="instead of the recipe's")
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
    dataset = load(plan.dataset, options.data_root)
    settings = Settings(
        seed=options.seed,
        device=device,
        world=world,
        progress=not options.quiet and sys.stderr.isatty(),
        compile_blocks=options.compile,
        synchronise_norms=options.sync_norms,
        workers=options.workers,
        tensorboard=options.tensorboard,
    )
    given = dict(plan.options.get(options.method, {})) | _options(options.option)
    for weight in options.weights or [None]:
        extra = given if weight is None else given | {"weight": weight}
        name = options.method if weight is None else f"{options.method}-lambda{weight:g}"
        if options.spec:
            name = f"twin-{options.spec}" + ("" if weight is None else f"-lambda{weight:g}")
        run_dir = options.run_dir or Path("runs") / plan.experiment / f"{name}-{options.seed}"
        if options.run_dir and len(options.weights or []) > 1:
            run_dir = options.run_dir / name
        method = make(options.method, extra)
        _one(plan, options.method, method, dataset, settings, run_dir, options.spec, options.resume, options.data_root)


def _one(
    plan: Recipe,
    method_name: str,
    method: Method,
    dataset: Dataset,
    settings: Settings,
    run_dir: Path,
    spec: str | None,
    resume: bool,
    data_root: Path | None,
) -> None:
    """Trains one run, from its start or from its newest checkpoint."""
    with layers_seeded(settings.seed, "weights"):
        net = build(plan.network, input_shape=dataset.image_shape, num_classes=len(dataset.classes))
    if spec is not None:
        wanted = net.topology.parse(spec)
        spec = str(wanted)
        with layers_seeded(settings.seed, "weights"):
            net = cut(build(plan.network, input_shape=dataset.image_shape, num_classes=len(dataset.classes)), wanted)
    asked = Run(
        network=plan.network,
        input_shape=dataset.image_shape,
        num_classes=len(dataset.classes),
        method=method_name,
        seed=settings.seed,
        dataset=plan.dataset,
        mean=dataset.mean,
        std=dataset.std,
        spec=spec,
        options=dataclasses.asdict(method),  # type: ignore[call-overload]  # every method is a dataclass
        recipe=plan.to_dict(),
        data_root=None if data_root is None else str(data_root),
        machine=describe(settings.device),
    )
    trainer = Trainer(net, method, plan, dataset, settings)
    if settings.world.rank == 0:
        run_dir.mkdir(parents=True, exist_ok=True)
    settings.world.barrier()
    _start_or_resume(trainer, asked, run_dir, resume, settings.world)
    if settings.world.rank == 0:
        where = describe(settings.device)["device"]
        left = plan.epochs - trainer.epoch
        print(f"{plan.name}, {method_name}: {left} of {plan.epochs} epochs to go on {where}; run folder {run_dir}")
    for row in trainer.run(run_dir):
        if settings.world.rank == 0:
            _tell(row, plan.epochs)


def _start_or_resume(trainer: Trainer, asked: Run, run_dir: Path, resume: bool, world: World) -> None:
    found = checkpoint.newest(run_dir) if resume else None
    if not resume and checkpoint.listed(run_dir):
        raise UsageError(
            f"{run_dir} already holds a run", todo="Add --resume to continue it, or give another folder with --run-dir."
        )
    if found is not None:
        path, state, complaints = found
        before = Run.read(run_dir)
        if before.method in METHODS:  # options that are newer than the run have their defaults
            complete = dataclasses.asdict(make(before.method, before.options))  # type: ignore[call-overload]  # every method is a dataclass
            before = dataclasses.replace(before, options=complete)
        for key in ("network", "spec", "method", "options", "recipe", "seed", "dataset"):
            was, now = getattr(before, key), getattr(asked, key)
            if _plain(was) != _plain(now):
                raise UsageError(f"{run_dir} was started with another {key}: {was}, now {now}", todo="Give another --run-dir.")
        for complaint in complaints if world.rank == 0 else []:
            print(f"warning: {complaint} Continuing from {path.name}.", file=sys.stderr)
        trainer.resume(state, str(path))
    if world.rank == 0:
        trim_records(run_dir, trainer.epoch)
        if found is None:
            asked.write(run_dir)
    world.barrier()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _tell(row: dict[str, Any], epochs: int) -> None:
    losses = "  ".join(f"{name} {value:.4f}" for name, value in row["losses"].items())
    test = f"  test {row['test']['accuracy_pct']:.2f}%" if "test" in row else ""
    left = (epochs - row["epoch"]) * row["seconds"]
    print(
        f"epoch {row['epoch']}/{epochs}  {losses}{test}  {row['images_per_second']:.0f} images/s  "
        f"about {left / 60:.1f} min left",
        flush=True,
    )


def _adjusted(plan: Recipe, options: Any) -> Recipe:
    keys = ("epochs", "batch_size", "learning_rate", "precision", "dataset", "network")
    changes = {key: getattr(options, key) for key in keys if getattr(options, key) is not None}
    if changes.get("dataset", plan.dataset) != plan.dataset or changes.get("network", plan.network) != plan.network:
        name = changes.get("dataset", plan.dataset).removeprefix("folder:").partition("@")[0]
        changes["experiment"] = f"{changes.get('network', plan.network)}-{os.path.basename(name.rstrip('/'))}"
    return dataclasses.replace(plan, **changes) if changes else plan


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
