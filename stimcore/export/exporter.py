"""Writes a bundle: one weight store, `main.onnx`, every wanted sub-network as a small graph, each behind the parity gate.

Everything is written into `.NAME.part` and moved into place when complete. An export that was killed finds its finished
files there and goes on; the bundle ends up the same, byte for byte.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from joblib import Parallel, delayed
from numpy.typing import NDArray

from stimcore import files
from stimcore.bundle import Bundle, Experiment, FileEntry, Manifest, open_bundle
from stimcore.engine.engine import Engine
from stimcore.errors import BundleError, ParityError
from stimcore.export.graphs import OPSET, externalise, network_graph
from stimcore.export.parity import checked, complaint
from stimcore.nets.cost import Cost, Costs
from stimcore.nets.norms import batch_norms
from stimcore.nets.staged import StagedNet
from stimcore.reference.prefix_tree import reference_logits
from stimcore.runs.run import Run
from stimcore.subnets.spec import Spec

STORE = "weights.bin"
PLAN, FINISHED = "plan.json", "finished.jsonl"
SHARE = 32
"""Networks whose torch reference is computed together: what a killed export does again, at most."""
EXPORTER = 2
"""Raised whenever the same run folder would give other bytes."""


class Exporter:
    """Exports one trained network.

    Args:
        run: What was asked of the run.
        net: With trained weights.
        checkpoint: The file that they came from.
        run_dir: Its folder.
        experiment: Where the bundle goes; has the images.
        name: Folder of the bundle.
        spec: What it is within the experiment's network when it is a twin, in long form.
        jobs: Files that are checked at once.
    """

    def __init__(
        self,
        run: Run,
        net: StagedNet,
        checkpoint: Path,
        run_dir: Path,
        experiment: Experiment,
        name: str,
        *,
        spec: str | None = None,
        jobs: int = 1,
    ) -> None:
        self.run, self.net, self.checkpoint, self.run_dir = run, net.eval(), checkpoint, run_dir
        self.experiment, self.spec, self.jobs = experiment, spec, jobs
        self.target = experiment.path / name
        self._part = experiment.path / f".{name}.part"
        self._costs = Costs(net)

    def export(
        self, specs: Sequence[Spec], tell: Callable[[int, int, str], None] = lambda done, total, line: None
    ) -> list[str]:
        """Writes the bundle. Exports into one experiment take turns, whichever process they run in.

        Args:
            specs: Sub-networks to list; the main network always is.
            tell: Gets files done, files in all, and a line on the last one.

        Returns:
            A sentence for every network that failed the parity gate and so is not listed.

        Raises:
            ParityError: The main network itself failed.
        """
        full = self.net.topology.full
        wanted = [full, *(spec for spec in dict.fromkeys(specs) if spec != full)]
        with files.locked(
            self.experiment.path, lambda: tell(0, len(wanted), f"waits for another export into {self.experiment.path}")
        ):
            return self._export(wanted, tell)

    def _export(self, wanted: Sequence[Spec], tell: Callable[[int, int, str], None]) -> list[str]:
        plan = self._plan(wanted)
        if self._is_done(plan):
            tell(len(wanted), len(wanted), "already exported from the same checkpoint")
            return []
        finished = self._finished(plan)
        manifest = self._store_weights(plan)
        complaints: list[str] = []
        for spec, entry in self._entries(wanted, finished, manifest):
            name = self.file_name(spec)
            if name not in finished:
                files.append_jsonl(self._part / FINISHED, [{"file": name, "entry": dataclasses.asdict(entry)}])
            finished[name] = entry
            tell(len(finished), len(wanted), f"{name}: {entry.accuracy_pct:.2f}%, parity {entry.parity:.1e}")
        for spec in wanted:
            name = self.file_name(spec)
            if (reason := complaint(name, finished[name])) is not None:
                if spec == wanted[0]:
                    raise ParityError(reason)
                complaints.append(reason)
                (self._part / name).unlink(missing_ok=True)
                del finished[name]
        networks = {name: finished[name] for name in map(self.file_name, wanted) if name in finished}
        self._move_into_place(dataclasses.replace(manifest, networks=networks))
        return complaints

    def file_name(self, spec: Spec) -> str:
        """Name of a sub-network's file."""
        topology = self.net.topology
        return "main.onnx" if spec == topology.full else f"subnet-{topology.short(spec)}.onnx"

    def _plan(self, wanted: Sequence[Spec]) -> dict[str, Any]:
        """What decides about the bundle's bytes."""
        return {
            "exporter": EXPORTER,
            "checkpoint": files.sha256(self.checkpoint),
            "run": files.sha256(self.run_dir / "run.json"),
            "images": dict(self.experiment.hashes),
            "specs": [str(spec) for spec in wanted],
            "versions": _versions(),
        }

    def _is_done(self, plan: dict[str, Any]) -> bool:
        """Whether the bundle that is there was made from the same, and is whole."""
        try:
            manifest = open_bundle(self.target).manifest
        except BundleError:
            return False
        specs = [entry.spec for entry in manifest.networks.values()]
        return (manifest.checkpoint_sha256, specs, manifest.versions) == (plan["checkpoint"], plan["specs"], plan["versions"])

    def _finished(self, plan: dict[str, Any]) -> dict[str, FileEntry]:
        """Files that an earlier, killed export of the same left whole."""
        try:
            same = json.loads((self._part / PLAN).read_text(encoding="utf-8")) == plan
        except (OSError, ValueError):
            same = False
        if not same:
            shutil.rmtree(self._part, ignore_errors=True)
            self._part.mkdir()
            files.write_json(self._part / PLAN, plan)
            return {}
        for torn in self._part.glob(".*.part"):
            torn.unlink()
        found: dict[str, FileEntry] = {}
        for row in files.read_jsonl(self._part / FINISHED):
            path = self._part / row["file"]
            if path.exists() and files.sha256(path) == row["entry"]["sha256"]:
                found[row["file"]] = FileEntry(**row["entry"])
        rows = [{"file": name, "entry": dataclasses.asdict(entry)} for name, entry in found.items()]
        files.write_jsonl(self._part / FINISHED, rows)
        return found

    def _store_weights(self, plan: dict[str, Any]) -> Manifest:
        model, parts = network_graph(self.net)
        inline = [t.name for t in model.graph.initializer if t.name.endswith((".mean", ".var"))]
        assert len(inline) == 2 * len(batch_norms(self.net))
        arrays = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name in inline}
        with files.replacing(self._part / "statistics.npz") as temporary, temporary.open("wb") as handle:
            np.savez(handle, **dict(sorted(arrays.items())))  # type: ignore[arg-type]  # numpy's stub confuses the keywords
        blob = externalise(model, STORE, inline)
        self._places = {t.name: t for t in model.graph.initializer if t.name not in inline}
        self._template = model.SerializeToString()
        with files.replacing(self._part / STORE) as temporary:
            temporary.write_bytes(blob)
        hashed = ["statistics.npz", STORE]
        if (self.run_dir / "training.jsonl").exists():
            shutil.copyfile(self.run_dir / "training.jsonl", self._part / "training.jsonl")
            hashed.append("training.jsonl")
        return Manifest(
            topology=self.net.topology,
            method=self.run.method,
            recipe=self.run.recipe,
            options=self.run.options,
            seed=self.run.seed,
            label=self.run.label,
            spec=self.spec,
            checkpoint_sha256=plan["checkpoint"],
            opset=OPSET,
            versions=plan["versions"],
            parts=parts,
            hashes={name: files.sha256(self._part / name) for name in hashed},
            networks={},
            images=len(self.experiment.evaluation[1]),
            machine=self.run.machine,
        )

    def _entries(
        self, wanted: Sequence[Spec], finished: dict[str, FileEntry], manifest: Manifest
    ) -> Iterator[tuple[Spec, FileEntry]]:
        """Writes and checks every file that is not finished yet."""
        missing = [spec for spec in wanted if self.file_name(spec) not in finished]
        if not missing:
            return
        # the engine reads main.onnx: the exported one when an earlier export finished it, else what it is made of
        if "main.onnx" not in finished:
            (self._part / "main.onnx").write_bytes(self._template)
        bundle = Bundle(path=self._part, experiment=self.experiment, manifest=manifest, fingerprint="")
        engine = Engine(bundle, device="cpu")
        statistics = engine.calibrated(missing)
        for spec in missing:
            model = engine.network(spec, statistics, folded=False)
            for tensor in model.graph.initializer:
                if tensor.name in self._places:
                    tensor.CopyFrom(self._places[tensor.name])
            with files.replacing(self._part / self.file_name(spec)) as temporary:
                temporary.write_bytes(model.SerializeToString())
        del engine, statistics
        yield from Parallel(n_jobs=self.jobs, prefer="threads", return_as="generator_unordered")(
            delayed(self._checked)(spec, logits, self._costs.of(spec)) for spec, logits in self._references(missing)
        )

    def _references(self, specs: Sequence[Spec]) -> Iterator[tuple[Spec, NDArray[np.float32]]]:
        calibration, images = (
            torch.from_numpy(self.experiment.normalise(pixels))
            for pixels in (self.experiment.calibration, self.experiment.evaluation[0])
        )
        ordered = sorted(specs, key=lambda spec: spec.blocks)
        for start in range(0, len(ordered), SHARE):
            share = ordered[start : start + SHARE]
            for spec, logits in reference_logits(self.net, share, calibration, images).items():
                yield spec, logits.numpy()

    def _checked(self, spec: Spec, logits: NDArray[np.float32], cost: Cost) -> tuple[Spec, FileEntry]:
        return spec, checked(self._part / self.file_name(spec), spec, logits, self.experiment, cost)

    def _move_into_place(self, manifest: Manifest) -> None:
        (self._part / PLAN).unlink()
        (self._part / FINISHED).unlink(missing_ok=True)
        files.write_json(self._part / "manifest.json", manifest.to_dict())
        if not self.target.exists():
            self._part.rename(self.target)
            return
        if (self.target / "manifest.json").exists() and files.sha256(self.target / "manifest.json") == files.sha256(
            self._part / "manifest.json"
        ):  # the same networks: what was measured of them is still true
            for path in [*self.target.glob("sweep-*.json"), *self.target.glob("latency.json")]:
                shutil.copyfile(path, self._part / path.name)
        old = self.target.with_name(f".{self.target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        self.target.rename(old)
        self._part.rename(self.target)
        shutil.rmtree(old)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("onnx", "torch", "numpy")} | {"onnxruntime": ort.__version__}
