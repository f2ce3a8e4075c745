"""Turns an experiment of version 1 into version 2. No run folder is needed; what version 1 did not store stays null.

The networks keep their weights and statistics, and get a description. Hits and the picture wall are measured anew by the
engine, and every count is compared with the one that version 1 stored.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stimcore import files
from stimcore.bundle import hits as hits_file
from stimcore.bundle import wall as wall_file
from stimcore.bundle.bundle import LATENCY, Bundle, network_fingerprint
from stimcore.bundle.card import write_card
from stimcore.bundle.experiment import IMAGE_FILES, VERSION, Experiment
from stimcore.bundle.hits import Hits, stored_specs
from stimcore.bundle.manifest import FileEntry, Manifest
from stimcore.bundle.opening import check_hashes, open_bundle, open_experiment, open_folder
from stimcore.bundle.store import writing
from stimcore.bundle.wall import Wall, shown_specs
from stimcore.engine.engine import Engine
from stimcore.engine.graph.external import load_model
from stimcore.engine.metadata import Measured, add_metadata
from stimcore.engine.spotcheck import SLACK
from stimcore.engine.walls import engine_answers, refresh_walls, wall_images
from stimcore.errors import BundleError, UsageError
from stimcore.subnets.spec import Spec

Report = Callable[[str], None]
"""Gets a line about what was done, or about what was left out and why."""


def migrate_experiment(source: Path, target: Path | None, report: Report) -> Path:
    """Write an experiment of version 1 anew in version 2.

    Args:
        source: `exported/EXPERIMENT`, of version 1.
        target: A folder that does not exist yet. When None, the new experiment replaces the old one once it is complete.
        report: Called with a line per method.

    Returns:
        The folder of the new experiment.

    Raises:
        UsageError: The experiment is not of version 1, or the target exists.
        BundleError: The experiment or one of its bundles is broken, or gives other counts than it stores.
    """
    source, in_place = files.with_names(source), target is None
    target = target or source
    old = _aside(source)
    experiment = open_experiment(source)
    if experiment.version == VERSION:
        raise UsageError(f"{source} is of version {VERSION} already")
    if not in_place and target.exists():
        raise UsageError(f"{target} exists", allowed="a folder that does not exist yet")
    target.parent.mkdir(parents=True, exist_ok=True)
    # the new experiment is built under its own name, which stands in its card
    part = target.parent / f".{target.name}.migration.part" / target.name
    with writing(source):
        try:
            shutil.rmtree(part.parent, ignore_errors=True)
            part.mkdir(parents=True)
            _build(experiment, part, report)
            if in_place:
                shutil.rmtree(old, ignore_errors=True)
                source.rename(old)
            part.rename(target)
        finally:
            shutil.rmtree(part.parent, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    return target


def restore_stopped(folder: Path) -> None:
    """Put experiments back that migrations in place moved aside before they were stopped.

    Args:
        folder: An experiment, which need not exist, or a folder of experiments.
    """
    folder = files.with_names(folder)
    hidden = [path for path in folder.glob(".*.old") if (path / "experiment.json").exists()]
    for source in (folder, *(folder / path.name.removeprefix(".").removesuffix(".old") for path in hidden)):
        if _aside(source).exists() and not source.exists():
            _aside(source).rename(source)


def _aside(source: Path) -> Path:
    """Return where a migration in place puts the old experiment before the new one takes its name."""
    return source.with_name(f".{source.name}.old")


def _build(source: Experiment, folder: Path, report: Report) -> None:
    for name in IMAGE_FILES:
        (folder / name).write_bytes(source.read(name))
        files.store_once(folder / name, [source.path / name])
    hashes = {name: source.hashes[name] for name in IMAGE_FILES}
    experiment = dataclasses.replace(source, path=folder, version=VERSION, hashes=hashes)
    files.write_json(folder / "experiment.json", experiment.to_dict())
    for method in source.methods:
        bundle = open_bundle(source.path / method)
        if bundle.manifest.version == VERSION:
            raise BundleError(f"{bundle.path} is of version {VERSION}, its experiment is not")
        _migrate_bundle(bundle, experiment, report)
        report(f"{method}: {len(bundle.manifest.networks)} networks")
    # the images of the wall depend on two methods, the card on all of them
    refresh_walls(experiment)
    write_card(folder)


def _migrate_bundle(old: Bundle, experiment: Experiment, report: Report) -> None:
    folder = experiment.path / old.method
    folder.mkdir()
    for name in old.manifest.hashes:
        (folder / name).write_bytes(old.read(name))
    manifest = dataclasses.replace(old.manifest, version=VERSION, name=None, exporter=None, experiment_sha256=experiment.sha256)
    manifest = dataclasses.replace(manifest, networks=_describe_networks(old, experiment, manifest))
    contents = _results(old, network_fingerprint(experiment, manifest), report)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    # the engine reads a bundle, so that there has to be one: without hits and wall at first
    names = [*old.manifest.hashes, *contents]
    _write_manifest(folder, manifest, names)
    bundle = open_folder(folder)
    check_hashes(bundle)
    counts = _stored_counts(bundle)
    engine = Engine(bundle, device="cpu")
    hits = _measure_hits(engine, counts)
    images = wall_images(experiment, {folder.name: hits})
    wall = Wall(images, {}).with_states(engine_answers(engine, images, shown_specs(bundle.topology, counts)))
    (folder / hits_file.FILE).write_bytes(hits.to_bytes())
    (folder / wall_file.FILE).write_bytes(wall.to_bytes())
    _write_manifest(folder, manifest, [*names, hits_file.FILE, wall_file.FILE])


def _describe_networks(old: Bundle, experiment: Experiment, manifest: Manifest) -> dict[str, FileEntry]:
    """Write the listed networks with a description inside, and return their new entries."""
    entries = {}
    for name, entry in old.manifest.networks.items():
        model = load_model(old.read, name)
        measured = Measured(correct=entry.correct, images=manifest.images, parity=entry.parity)
        add_metadata(model, experiment, manifest, old.topology.parse(entry.spec), measured)
        path = experiment.path / old.method / name
        path.write_bytes(model.SerializeToString())
        entries[name] = dataclasses.replace(entry, sha256=files.sha256(path), bytes=path.stat().st_size)
    return entries


def _results(old: Bundle, fingerprint: str, report: Report) -> dict[str, bytes]:
    """Return sweeps and latencies, the sweeps with the new fingerprint; those of other networks are left out."""
    contents = {}
    for kind in old.sweeps:
        name = f"sweep-{kind}.json"
        try:
            sweep: dict[str, Any] = json.loads(old.read(name))
            current = sweep.get("bundle", old.fingerprint) == old.fingerprint
        except (ValueError, AttributeError):
            current = False
        if current:
            contents[name] = files.json_text({**sweep, "bundle": fingerprint}).encode()
        else:
            report(f"{old.method}/{name} is left out: it is broken, or of other networks")
    if old.has(LATENCY):
        contents[LATENCY] = old.read(LATENCY)
    for name in sorted(set(old.unverified) - set(contents)):
        if not name.startswith("sweep-"):
            report(f"{old.method}/{name} is left out: it is no part of a bundle")
    return contents


def _stored_counts(bundle: Bundle) -> dict[Spec, int]:
    """Return the stored numbers of correct images of all sub-networks whose hits a bundle keeps."""
    counts = {bundle.topology.parse(entry.spec): entry.correct for entry in bundle.manifest.networks.values()}
    for kind in bundle.sweeps:
        for row in (bundle.sweep(kind) or {})["results"]:
            counts.setdefault(bundle.topology.parse(row["spec"]), row["correct"])
    return {spec: counts[spec] for spec in stored_specs(bundle.topology, counts)}


def _measure_hits(engine: Engine, counts: dict[Spec, int]) -> Hits:
    """Evaluate sub-networks and return their hits.

    Raises:
        BundleError: A sub-network gets another number of images right than is stored.
    """
    *_, last = engine.evaluate(list(counts), chunk_images=2000, collect_hits=True)
    for spec, correct in counts.items():
        measured = last.results[spec].correct
        if abs(measured - correct) > SLACK:
            raise BundleError(f"{spec} of {engine.bundle.method} gets {measured:,} images right here, {correct:,} are stored")
    return Hits(engine.bundle.manifest.images, {}).with_rows({spec: last.hits[spec] for spec in counts})


def _write_manifest(folder: Path, manifest: Manifest, names: list[str]) -> None:
    hashes = {name: files.sha256(folder / name) for name in names}
    files.write_json(folder / "manifest.json", dataclasses.replace(manifest, hashes=hashes).to_dict())
