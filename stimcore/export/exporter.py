"""Writes a bundle: one weight store, `main.onnx`, every wanted sub-network as a small graph, each behind a parity gate."""

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto

from stimcore import files
from stimcore.bundle import Bundle, Experiment, FileEntry, Manifest, open_experiment
from stimcore.data.images import Dataset, calibration_subset
from stimcore.errors import ParityError, UsageError
from stimcore.evaluation import evaluate
from stimcore.export.graphs import OPSET, externalise, whole
from stimcore.nets.cost import Costs
from stimcore.nets.norms import batch_norms
from stimcore.nets.staged import StagedNet
from stimcore.runtime.engine import Engine
from stimcore.runtime.graph import Statistics
from stimcore.topology import Spec
from stimcore.training.run import Run

TOLERANCE = 1e-4
"""Largest difference of logits between torch and onnxruntime, over the largest logit, that is let through."""
STORE = "weights.bin"


def write_experiment(folder: Path, dataset: Dataset, net: StagedNet) -> Experiment:
    """Writes what all methods share, or checks that what is there is the same.

    Raises:
        UsageError: The folder holds another experiment.
    """
    calibration = calibration_subset(dataset.train)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "experiment.json").exists():
        there = open_experiment(folder)
        same = (
            there.topology == net.topology
            and there.classes == dataset.classes
            and (there.mean, there.std) == (dataset.mean, dataset.std)
            and np.array_equal(there.calibration, calibration.pixels)
            and np.array_equal(there.evaluation[0], dataset.test.pixels)
        )
        if not same:
            raise UsageError(
                f"{folder} holds another experiment (network, classes or images differ)", todo="Give another --out."
            )
        return there
    for name, images in (("calibration.npz", calibration), ("evaluation.npz", dataset.test)):
        with files.replacing(folder / name) as temporary, temporary.open("wb") as handle:
            np.savez_compressed(handle, pixels=images.pixels, labels=images.labels)
    experiment = Experiment(
        path=folder,
        dataset=dataset.name,
        licence=dataset.licence,
        classes=dataset.classes,
        mean=dataset.mean,
        std=dataset.std,
        image_shape=dataset.image_shape,
        topology=net.topology,
        hashes={name: files.sha256(folder / name) for name in ("calibration.npz", "evaluation.npz")},
    )
    experiment.write()
    return experiment


class Exporter:
    """Exports one trained network.

    Args:
        run: What was asked of the run.
        net: With trained weights.
        checkpoint: The file that they came from.
        run_dir: Its folder.
        dataset: Images to calibrate and evaluate on.
        experiment: Where the bundle goes.
        threads: Of onnxruntime, inside one operator.
    """

    def __init__(
        self,
        run: Run,
        net: StagedNet,
        checkpoint: Path,
        run_dir: Path,
        dataset: Dataset,
        experiment: Experiment,
        threads: int = 1,
    ) -> None:
        self.run, self.net, self.checkpoint, self.run_dir = run, net.eval(), checkpoint, run_dir
        self.dataset, self.experiment, self.threads = dataset, experiment, threads
        self.calibration = calibration_subset(dataset.train)
        self.costs = Costs(net)

    def export(
        self, name: str, specs: Iterable[Spec], tell: Callable[[str], None] = lambda line: None
    ) -> tuple[Path, list[str]]:
        """Writes `EXPERIMENT/name`, the manifest last, into place whole.

        Returns:
            The folder, and a sentence for every network that failed its parity gate and so is not listed.

        Raises:
            ParityError: The main network itself failed.
        """
        target = self.experiment.path / name
        folder = self.experiment.path / f".{name}.part"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            complaints = self._fill(folder, list(specs), tell)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if target.exists():
            old = self.experiment.path / f".{name}.old"
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
            folder.rename(target)
            shutil.rmtree(old)
        else:
            folder.rename(target)
        return target, complaints

    def _fill(self, folder: Path, specs: list[Spec], tell: Callable[[str], None]) -> list[str]:
        model, parts = whole(self.net)
        inline = [t.name for t in model.graph.initializer if t.name.endswith((".mean", ".var"))]
        arrays = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name in inline}
        assert len(inline) == 2 * len(batch_norms(self.net))
        with (folder / "statistics.npz").open("wb") as handle:
            np.savez(handle, **dict(sorted(arrays.items())))  # type: ignore[arg-type]  # numpy's stub confuses the keywords
        (folder / STORE).write_bytes(externalise(model, STORE, inline))
        (folder / "main.onnx").write_bytes(model.SerializeToString())
        places = {t.name: t for t in model.graph.initializer if t.name not in inline}
        manifest = Manifest(
            topology=self.net.topology,
            method=self.run.method,
            recipe=self.run.recipe,
            options=self.run.options,
            seed=self.run.seed,
            label=self.run.label,
            spec=self.run.spec,
            checkpoint_sha256=files.sha256(self.checkpoint),
            opset=OPSET,
            versions={name: version(name) for name in ("onnx", "torch", "numpy")} | {"onnxruntime": ort.__version__},
            parts=parts,
            hashes={},
            networks={},
            images=len(self.dataset.test),
            machine=self.run.machine,
        )
        engine = Engine(
            Bundle(path=folder, experiment=self.experiment, manifest=manifest, fingerprint=""),
            device="cpu",
            threads=self.threads,
        )
        full = self.net.topology.full
        wanted = [full, *(spec for spec in dict.fromkeys(specs) if spec != full)]
        networks: dict[str, FileEntry] = {}
        complaints: list[str] = []
        for number, spec in enumerate(wanted, 1):
            file = "main.onnx" if spec == full else f"subnet-{self.net.topology.short(spec)}.onnx"
            self._write_network(folder / file, engine, spec, places)
            entry = self._checked(folder / file, spec)
            tell(f"{number}/{len(wanted)} {file}: {entry.accuracy_pct:.2f}%, parity {entry.parity:.1e}")
            if entry.parity > TOLERANCE or entry.agreement < 0.999:
                complaint = f"{file} differs from torch by {entry.parity:.1e} of its largest logit (allowed {TOLERANCE:.0e})"
                if spec == full:
                    raise ParityError(complaint)
                complaints.append(complaint)
                (folder / file).unlink()
                continue
            networks[file] = entry
        hashed = ["statistics.npz", STORE]
        if (self.run_dir / "training.jsonl").exists():
            shutil.copyfile(self.run_dir / "training.jsonl", folder / "training.jsonl")
            hashed.append("training.jsonl")
        manifest = replace(manifest, networks=networks, hashes={name: files.sha256(folder / name) for name in hashed})
        files.write_json(folder / "manifest.json", manifest.to_dict())
        return complaints

    def _write_network(self, path: Path, engine: Engine, spec: Spec, places: dict[str, TensorProto]) -> None:
        """One graph: its own statistics inline, every weight in the shared store."""
        statistics: dict[str, Statistics] = engine.statistics(spec)
        model = engine.graph.fixed(engine.route(spec), statistics, names=("images", "logits"))
        for tensor in model.graph.initializer:
            if tensor.name in places:
                tensor.CopyFrom(places[tensor.name])
        model.graph.input[0].CopyFrom(_value("images", self.experiment.image_shape))
        model.graph.output[0].CopyFrom(_value("logits", (len(self.experiment.classes),)))
        path.write_bytes(model.SerializeToString())
        onnx.checker.check_model(os.fspath(path), full_check=True)

    def _checked(self, path: Path, spec: Spec) -> FileEntry:
        """Runs the file as a stranger would and compares it with the torch reference."""
        truth = evaluate(self.net, spec, self.dataset.test, mean=self.run.mean, std=self.run.std, calibration=self.calibration)
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        pixels = self.dataset.test.pixels
        logits: NDArray[np.float32] = np.concatenate(
            [
                session.run(None, {"images": self.experiment.normalise(pixels[i : i + 500])})[0]
                for i in range(0, len(pixels), 500)
            ]
        )
        correct = int((logits.argmax(1) == self.dataset.test.labels).sum())
        cost = self.costs.of(spec)
        return FileEntry(
            sha256=files.sha256(path),
            bytes=path.stat().st_size,
            spec=str(spec),
            accuracy_pct=100 * correct / len(pixels),
            correct=correct,
            correct_torch=truth.correct,
            parity=float(np.abs(logits - truth.logits).max() / np.abs(truth.logits).max()),
            agreement=float((logits.argmax(1) == truth.logits.argmax(1)).mean()),
            parameters=cost.parameters,
            macs=cost.macs,
        )


def _value(name: str, dims: tuple[int, ...]) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *dims])
