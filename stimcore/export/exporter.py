"""Writes a bundle: one file of weights, `main.onnx`, every wanted sub-network as a small graph, each behind the parity check.

Everything is written into the hidden folder `.NAME.part` and moved into place when it is complete. An export that was stopped
goes on with the files that it had finished, and the bundle ends up the same, byte for byte.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnxruntime as ort

import stimcore
from stimcore import files
from stimcore.bundle import Answers, ExitEntry, Experiment, Hits, Manifest, Wall, open_bundle
from stimcore.bundle import hits as hits_file
from stimcore.bundle import wall as wall_file
from stimcore.bundle.bundle import STATISTICS, TRAINING, WEIGHTS, network_fingerprint
from stimcore.bundle.card import write_card
from stimcore.bundle.manifest import MAIN
from stimcore.bundle.opening import open_folder
from stimcore.bundle.store import recover, writing
from stimcore.engine.provider import file_session
from stimcore.engine.walls import refresh_walls, wall_images
from stimcore.errors import BundleError, ParityError, SpecError
from stimcore.export.choices import GraphExporter
from stimcore.export.experiment import check_unchanged, remove_unused
from stimcore.export.networks import CheckPlan, NetworkWriter, SharedFiles, file_name, write_shared_files
from stimcore.export.parity import FLOAT32, Parity
from stimcore.export.unfinished import CheckedNetwork, UnfinishedBundle
from stimcore.nets.onnx_part import OPSET
from stimcore.runs.trained_run import TrainedRun
from stimcore.subnets.spec import Spec

EXPORTER = 5
"""Raised whenever the same run folder would give other bytes."""

OnProgress = Callable[[int, int, str], None]
"""Gets files done, files in all, and a line about the last one."""


def ignore_progress(done: int, total: int, line: str) -> None:  # an `OnProgress`
    """Do nothing."""


class Exporter:
    """Exports one trained network.

    Args:
        trained: The run with its network.
        experiment: The experiment that the bundle belongs to; it holds the images.
        name: Folder of the bundle.
        spec: For a twin the sub-network of the experiment's network that it equals; None for the whole network.
        plan: How the files are checked; one after the other on all images when None.
        graphs: torch's exporter that turns the modules into graphs.

    Attributes:
        target: Folder of the bundle.
        notes: What the checks of the last export found that a user has to know, a line each.
    """

    def __init__(
        self,
        trained: TrainedRun,
        experiment: Experiment,
        name: str,
        *,
        spec: Spec | None = None,
        plan: CheckPlan | None = None,
        graphs: GraphExporter = "torch.export",
    ) -> None:
        self.trained, self._net, self._experiment = trained, trained.net.eval(), experiment
        self._spec, self._plan, self._graphs = spec, plan or CheckPlan(), graphs
        self.target = experiment.path / name
        self.notes: list[str] = []

    def export(self, specs: Sequence[Spec], on_progress: OnProgress = ignore_progress) -> list[str]:
        """Write the bundle. Exports into one experiment take turns, in whichever processes they run.

        Args:
            specs: Sub-networks to list; the main network always is.
            on_progress: Called after every file.

        Returns:
            A sentence for every network that failed its parity check and is therefore not listed.

        Raises:
            ParityError: The main network failed its parity check; what was written for it is removed.
            BundleError: The run has a value that no manifest can hold; nothing was published.
            UsageError: The experiment was replaced since it was opened.
        """
        full = self._net.topology.full
        wanted = [full, *(spec for spec in dict.fromkeys(specs) if spec != full)]
        folder = self._experiment.path
        with writing(folder, lambda: on_progress(0, len(wanted), f"waits for another export into {folder}")):
            check_unchanged(self._experiment)
            recover(self.target)
            complaints = self._export(wanted, on_progress)
            # also when nothing was written: an export that was stopped here left both as they were
            refresh_walls(self._experiment)
            write_card(folder)
            return complaints

    def _export(self, wanted: Sequence[Spec], on_progress: OnProgress) -> list[str]:
        sources = self._sources(wanted)
        if self._is_done(sources):
            on_progress(len(wanted), len(wanted), "already exported from the same checkpoint")
            return []
        part = UnfinishedBundle(
            self.target.with_name(f".{self.target.name}.part"), sources, images=len(self._experiment.evaluation[1])
        )
        finished = part.resume()
        shared = write_shared_files(self._net, part.path, self._graphs)
        manifest = self._manifest(part, shared, sources)
        writer = NetworkWriter(self._net, self._experiment, part.path, manifest, shared, self._plan)
        names = {file_name(self._net.topology, spec): spec for spec in wanted}
        self.notes = [network.note for network in finished.values() if network.note]
        for name, network in writer.write(wanted, {spec for name, spec in names.items() if name in finished}):
            part.record(name, network)
            finished[name] = network
            entry = network.entry
            line = f"{name}: {entry.accuracy_pct:.2f}%, parity {entry.parity:.1e}"
            if entry.check == "sampled":
                line += f" on {entry.checked_images:,} images"
            if network.note:
                self.notes.append(network.note)
            on_progress(len(finished), len(wanted), line)
        try:
            complaints = _remove_failed(part, finished)
        except ParityError:
            # the same run would fail again, and another one has no use for these files
            part.discard()
            remove_unused(self._experiment.path)
            raise
        listed = {names[name]: finished[name] for name in names if name in finished}
        networks = {file_name(self._net.topology, spec): network.entry for spec, network in listed.items()}
        self._complete(part, replace(manifest, networks=networks), listed)
        return complaints

    def _sources(self, wanted: Sequence[Spec]) -> dict[str, Any]:
        """Return everything that decides about the bytes of the bundle."""
        return {
            "exporter": EXPORTER,
            "checkpoint": files.sha256(self.trained.checkpoint),
            "run": files.sha256(self.trained.folder / "run.json"),
            "experiment": self._experiment.sha256,
            "specs": [str(spec) for spec in wanted],
            "checked": self._checked_images(),
            "program": f"stimcore {stimcore.__version__} ({self._graphs})",
            "versions": _versions(),
        }

    def _is_done(self, sources: Mapping[str, Any]) -> bool:
        """Return whether the bundle that is there was made from the same sources, and is whole."""
        try:
            manifest = open_bundle(self.target).manifest
        except BundleError:
            return False
        present: dict[str, Any] = {
            "checkpoint": manifest.checkpoint_sha256,
            "specs": [entry.spec for entry in manifest.networks.values()],
            "program": manifest.exporter,
            "versions": manifest.versions,
        }
        # a bundle that was checked on more images than is asked for need not be made again
        enough = all(entry.checked_images >= sources["checked"] for entry in manifest.networks.values())
        return enough and all(sources[key] == value for key, value in present.items())

    def _checked_images(self) -> int:
        """Return on how many evaluation images every file is compared with torch."""
        total = len(self._experiment.evaluation[1])
        sample = self._plan.sample(total)
        return total if sample is None else len(sample)

    def _manifest(self, part: UnfinishedBundle, shared: SharedFiles, sources: Mapping[str, Any]) -> Manifest:
        """Return the manifest without networks, and copy the records of the training."""
        run = self.trained.run
        names = [STATISTICS, WEIGHTS]
        if (self.trained.folder / TRAINING).exists():
            shutil.copyfile(self.trained.folder / TRAINING, part.path / TRAINING)
            names.append(TRAINING)
        return Manifest(
            topology=self._net.topology,
            method=run.method,
            name=run.name or run.method,
            recipe=run.recipe,
            options=run.options,
            seed=run.seed,
            label=run.label,
            spec=None if self._spec is None else str(self._spec),
            checkpoint_sha256=sources["checkpoint"],
            opset=OPSET,
            exporter=sources["program"],
            versions=sources["versions"],
            parts=shared.parts,
            hashes={name: files.sha256(part.path / name) for name in names},
            networks={},
            images=len(self._experiment.evaluation[1]),
            experiment_sha256=self._experiment.sha256,
            machine=run.machine,
        )

    def _complete(self, part: UnfinishedBundle, manifest: Manifest, listed: Mapping[Spec, CheckedNetwork]) -> None:
        """Add hits, picture wall and what is still valid of an older bundle, write the manifest and move all into place."""
        hits = Hits(manifest.images, {}).with_rows({spec: network.hits for spec, network in listed.items()})
        contents = self._still_valid(manifest)
        if hits_file.FILE in contents:
            hits = Hits.from_bytes(contents[hits_file.FILE]).with_rows({spec: n.hits for spec, n in listed.items()})
        images = wall_images(self._experiment, {self.target.name: hits})
        wall = Wall(images, self._listed_answers(part, listed, images))
        if wall_file.FILE in contents:
            old = Wall.from_bytes(contents[wall_file.FILE])
            wall = wall if old.images != images else old.with_states(wall.states)
        contents |= {hits_file.FILE: hits.to_bytes(), wall_file.FILE: wall.to_bytes()}
        for name, content in contents.items():
            (part.path / name).parent.mkdir(parents=True, exist_ok=True)
            with files.replacing(part.path / name) as temporary:
                temporary.write_bytes(content)
        hashes = {**manifest.hashes, **{name: files.sha256(part.path / name) for name in contents}}
        exits = [entry for entry in self._exits_before() if entry.file in contents]
        text = files.json_text(replace(manifest, hashes=hashes, exits=exits).to_dict())
        try:
            Manifest.from_dict(json.loads(text))
        except (ValueError, SpecError) as reason:
            # what nobody could open must not replace a bundle that opens
            raise BundleError(
                f"the bundle {self.target} is not written, as it could not be opened: {str(reason).rstrip('.')}",
                todo=f"Correct that in {self.trained.folder / 'run.json'}, or train the run again.",
            ) from reason
        files.write_text(part.path / "manifest.json", text)
        part.publish(self.target)

    def _listed_answers(
        self, part: UnfinishedBundle, listed: Mapping[Spec, CheckedNetwork], images: Sequence[int]
    ) -> dict[Spec, Answers]:
        """Return the answers of the listed networks on the images of the picture wall."""
        pixels = self._experiment.normalise(self._experiment.evaluation[0][np.array(images, np.int64)])
        answers = {}
        for spec in list(listed)[: wall_file.MOST_STATES]:
            session = file_session(part.path / file_name(self._net.topology, spec), threads=1)
            answers[spec] = Answers.of(session.run(None, {"images": pixels})[0])
        return answers

    def _exits_before(self) -> Sequence[ExitEntry]:
        """Return the exits that the bundle which is there lists; their file decides whether they are still valid."""
        try:
            return open_folder(self.target).manifest.exits
        except BundleError:
            return []

    def _still_valid(self, manifest: Manifest) -> dict[str, bytes]:
        """Return the results in the bundle that is there, when they were measured of the very same networks."""
        try:
            old = open_folder(self.target)
        except BundleError:
            return {}
        if old.fingerprint != network_fingerprint(self._experiment, manifest):
            return {}
        contents = {}
        for name in set(old.manifest.hashes) - set(manifest.hashes):
            try:
                contents[name] = old.read(name)
            except BundleError:
                continue  # a broken file is why this bundle is exported again
        return contents


def _remove_failed(part: UnfinishedBundle, finished: dict[str, CheckedNetwork]) -> list[str]:
    """Remove the networks that failed their parity check, and return why.

    Raises:
        ParityError: The main network failed.
    """
    complaints = []
    for name, network in list(finished.items()):
        reason = Parity(network.entry.parity, network.entry.agreement).complaint(name, FLOAT32)
        if reason is None:
            continue
        if name == MAIN:
            raise ParityError(reason)
        complaints.append(reason)
        (part.path / name).unlink(missing_ok=True)
        del finished[name]
    return complaints


def _versions() -> dict[str, str]:
    names = ["onnx", "torch", "numpy", *(["onnxscript"] if find_spec("onnxscript") else [])]
    return {name: version(name) for name in names} | {"onnxruntime": ort.__version__}
