"""The folder in which `bench compress` keeps what it has finished: trainings, pruned weights, bundles, files and figures.

WORK/settings.json     what the figures were measured with; another call with other settings is refused
WORK/runs/             run folders of trainings that `--runs` does not have
WORK/exported/         bundles of all networks
WORK/files/            the self-contained ONNX file of every network
WORK/NAME.json         what a step measured
"""

import contextlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stimcore import files
from stimcore.bench import session_memory
from stimcore.bundle import Bundle, open_bundle
from stimcore.data.sources import load
from stimcore.engine.engine import Engine
from stimcore.errors import UsageError
from stimcore.experiments.commands import is_finished
from stimcore.export.request import ExportRequest, prepare
from stimcore.recipes.catalogue import recipe
from stimcore.recipes.recipe import LABELLED_SETTINGS, Recipe
from stimcore.runs.run import Run, training_records
from stimcore.runs.trained_run import TrainedRun, open_run
from stimcore.subnets.spec import Spec
from stimcore.train.__main__ import main as train

RECIPE = "resnet20-fashion"
TINY_SIDE, TINY_PER_CLASS, TINY_BATCH = 28, 4, 16
"""With `--quick`: side of the pictures, how many each class has of them for training and for testing, and images per step."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training with the recipe.

    Attributes:
        name: Name of the run, without its seed.
        seed: Seed.
        method: Training method.
        spec: The sub-network that is trained; the whole network when empty.
        init: Run folder or file of the weights that it starts from; random weights when None.
        network: The network; that of the recipe when empty.
        epochs: Epochs; those of the recipe when None.
        learning_rate: Peak learning rate; that of the recipe when None.
    """

    name: str
    seed: int
    method: str = "common"
    spec: str = ""
    init: Path | None = None
    network: str = ""
    epochs: int | None = None
    learning_rate: float | None = None

    def words(self) -> list[str]:
        """Return the options of `stimcore.train` that ask for it."""
        options: dict[str, Any] = {
            "--method": self.method,
            "--seed": self.seed,
            "--name": self.name,
            "--spec": self.spec,
            "--init": self.init,
            "--network": self.network,
            "--epochs": self.epochs,
            "--learning-rate": self.learning_rate,
        }
        return [word for key, value in options.items() if value not in ("", None) for word in (key, str(value))]


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network whose file was written and evaluated.

    Attributes:
        file: The self-contained ONNX file.
        hits: For every evaluation image whether it is classified correctly, bool `[N]`.
        figures: `correct`, `images`, `parameters`, `macs`, `bytes` and `memory_mb`.
    """

    file: Path
    hits: NDArray[np.bool_]
    figures: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Work:
    """The folder, and how trainings are made that are not there yet.

    Attributes:
        folder: The folder.
        runs: Folder with `EXPERIMENT/NAME-SEED` of finished trainings; None where there is none.
        quick: Whether everything is tiny.
        data_root: Folder of the data set; None for the default.
    """

    folder: Path
    runs: Path | None = None
    quick: bool = False
    data_root: Path | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe of all trainings."""
        original = recipe(RECIPE)
        if not self.quick:
            return original
        pictures = f"folder:{self.folder / 'pictures'}"
        return original.with_changes({"epochs": 1, "batch_size": TINY_BATCH, "dataset": pictures, "train_per_class": 0})

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Make the folder, or make sure that it was made with the same settings.

        Raises:
            UsageError: It was made with others.
        """
        path = self.folder / "settings.json"
        if path.exists():
            stored = json.loads(path.read_text(encoding="utf-8"))
            differing = [key for key, value in settings.items() if stored.get(key) != value]
            if differing:
                key = differing[0]
                raise UsageError(
                    f"{self.folder} was measured with {key} = {stored.get(key)}, not {settings[key]}",
                    todo="Give the same settings to go on, or another folder with --work.",
                )
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.quick:
            _write_pictures(self.folder / "pictures")
        files.write_json(path, dict(settings))

    def kept(self, name: str, make: Callable[[], Any], *, source: Any = None) -> Any:
        """Return what `NAME.json` holds; where it is not there yet, or was made of something else, make it.

        Args:
            name: Name of the file, without its ending.
            make: Returns the value, as plain values.
            source: What the value depends on, as plain values.
        """
        path = self.folder / f"{name}.json"
        stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        if stored is None or stored["source"] != source:
            stored = {"source": source, "value": make()}
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_json(path, stored)
        return json.loads(files.json_text(stored))["value"]

    def image_shape(self) -> tuple[tuple[int, int, int], int]:
        """Return `[C, H, W]` of the images, and the number of classes."""
        dataset = load(self.recipe.dataset, self.data_root)
        return dataset.image_shape, len(dataset.classes)

    def trained(self, training: Training) -> Path:
        """Return the run folder of a finished training, in `runs` or in this folder, where one that was stopped goes on.

        Raises:
            UsageError: The folder of this name in `runs` holds another training.
            StimcoreError: The training failed.
        """
        name = f"{self.recipe.experiment}/{training.name}-{training.seed}"
        if self.runs is not None and is_finished(self.runs / name):
            _refuse_other(self.runs / name, training, self.recipe)
            return self.runs / name
        folder = self.folder / "runs" / name
        if not is_finished(folder):
            words = [RECIPE, *training.words(), "--run-dir", str(folder), "--device", "cpu", "--resume", "--quiet"]
            if self.quick:
                words += ["--dataset", self.recipe.dataset, "--train-per-class", "0", "--batch-size", str(TINY_BATCH)]
                words += ["--epochs", str(training.epochs or 1)]
            # its accuracies are counted once, at the end: nothing is chosen by them
            words += ["--evaluate-every", str(training.epochs or self.recipe.epochs), "--watch"]
            words += [] if self.data_root is None else ["--data-root", str(self.data_root)]
            print(f"python -m stimcore.train {' '.join(words)}", file=sys.stderr, flush=True)
            with contextlib.redirect_stdout(sys.stderr):
                train(words)
        return folder

    def opened(self, run: Path) -> TrainedRun:
        """Return a run of this folder, or of `runs`, with its network."""
        return open_run(run, trust_code=True)  # the networks of these runs are the project's

    def exported(self, run: Path, name: str, *, experiment: str, subnets: Sequence[str] = ("main",)) -> Bundle:
        """Return the bundle of a run in this folder.

        Args:
            run: Run folder.
            name: Name of the bundle.
            experiment: Name of its experiment.
            subnets: The sub-networks that are listed.
        """
        out = self.folder / "exported" / experiment
        exporter, specs = prepare(
            ExportRequest(
                run_dir=run,
                out=out,
                name=name,
                subnets=subnets,
                data_root=self.data_root,
                trust_code=True,
                graphs="torchscript",  # the same graphs after optimisation, in a fraction of the time
            )
        )
        for complaint in exporter.export(specs):
            raise UsageError(f"{out / name}: {complaint}")
        return open_bundle(exporter.target)

    def network(self, name: str, bundle: Bundle, spec: Spec) -> Network:
        """Return a network of a bundle with its file and its figures; the file is written the first time.

        Args:
            name: Name of the file and of the figures.
            bundle: Bundle that lists it.
            spec: The network.
        """
        file = self.folder / "files" / f"{name}.onnx"

        def measure() -> dict[str, Any]:
            file.parent.mkdir(exist_ok=True)
            with files.replacing(file) as temporary:
                temporary.write_bytes(Engine(bundle, device="cpu", threads=1).standalone(spec))
            entry = bundle.manifest.networks[bundle.listed(spec) or ""]
            return {
                "correct": entry.correct,
                "images": bundle.manifest.images,
                "parameters": entry.parameters,
                "macs": entry.macs,
                "bytes": file.stat().st_size,
                "memory_mb": round(session_memory.measure(file), 2),
            }

        source = {"checkpoint": bundle.manifest.checkpoint_sha256, "spec": str(spec)}
        figures = self.kept(f"networks/{name}", measure, source=source)
        hits = bundle.hits(spec)
        assert hits is not None  # the exporter stores those of every listed network
        return Network(file=file, hits=hits, figures=figures)


def training_seconds(run: Path) -> float:
    """Return the processor time of all training steps of a run; evaluations do not count."""
    return float(sum(record["cpu_seconds"] for record in training_records(run)))


def _refuse_other(folder: Path, training: Training, planned: Recipe) -> None:
    """Refuse a run folder that has the name of a training but holds another one.

    Raises:
        UsageError: Method, seed, sub-network or a setting of the recipe differ.
    """
    run = Run.read(folder)
    wanted = planned.to_dict()
    changes = {"epochs": training.epochs, "learning_rate": training.learning_rate, "network": training.network}
    wanted |= {key: value for key, value in changes.items() if value not in ("", None)}
    pairs: dict[str, tuple[Any, Any]] = {key: (run.recipe.get(key), wanted[key]) for key in LABELLED_SETTINGS}
    pairs |= {"method": (run.method, training.method), "seed": (run.seed, training.seed)}
    full = run.build_network().topology.sizes
    stages = None if not training.spec else tuple(map(int, training.spec[1:].split("-")))
    pairs["sub-network"] = (None if run.spec is None else full, stages)
    for key, (stored, asked) in pairs.items():
        if json.dumps(stored) != json.dumps(asked):
            raise UsageError(
                f"{folder} holds a training with {key} {stored}, not {asked}", todo="Give another folder with --runs."
            )


def _write_pictures(folder: Path) -> None:
    """Write a folder of pictures with random grey values, ten classes."""
    rng = np.random.Generator(np.random.PCG64(0))
    for part in ("train", "test"):
        for label in range(10):
            path = folder / part / f"class{label}"
            path.mkdir(parents=True, exist_ok=True)
            for number in range(TINY_PER_CLASS):
                Image.fromarray(rng.integers(0, 256, (TINY_SIDE, TINY_SIDE), dtype=np.uint8)).save(path / f"{number}.png")
