"""What is said of a bundle: the catalogue's entries, stored sweeps, listed networks, whether a text names a sub-network."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from stimcore.analysis.intervals import paired_drop, wilson
from stimcore.bundle import Bundle
from stimcore.errors import BundleError, UsageError
from stimcore.serve import types
from stimcore.serve.errors import NotFound
from stimcore.subnets.families import KINDS


def stored_sweep(bundle: Bundle, kind: str) -> dict[str, Any] | None:
    """A stored sweep; None where there is none.

    Raises:
        NotFound: There is no such family.
        BundleError: The file is broken.
    """
    if kind not in KINDS:
        raise NotFound(f"there is no family '{kind[:40]}'", allowed=", ".join(KINDS))
    try:
        found = bundle.sweep(kind)
        if found is not None and not (isinstance(found["results"], list) and isinstance(found["main"], dict)):
            raise ValueError("no results")
    except (ValueError, KeyError, TypeError, OSError) as reason:
        raise BundleError(f"sweep-{kind}.json of {bundle.experiment.name}/{bundle.method} is broken ({reason})") from reason
    return found


def main_result(bundle: Bundle) -> types.Result:
    """The main network on all evaluation images: of a stored sweep, else the counts of the manifest."""
    for kind in bundle.sweeps:
        sweep = stored_sweep(bundle, kind)
        if sweep is not None and sweep["main"]["images"] == bundle.manifest.images:
            return types.Result.model_validate(sweep["main"])
    correct, images = bundle.main.correct, bundle.manifest.images
    drop = paired_drop(0, 0, images)
    return types.Result(
        spec=bundle.main.spec,
        correct=correct,
        images=images,
        accuracy_pct=100 * correct / images,
        interval_pct=wilson(correct, images),
        drop_pct=0,
        drop_interval_pct=drop.interval_pct,
    )


def method_info(bundle: Bundle) -> types.MethodInfo:
    """What the catalogue says of a bundle."""
    manifest = bundle.manifest
    return types.MethodInfo(
        name=bundle.method,
        method=manifest.method,
        label=manifest.label,
        spec=manifest.spec,
        topology=manifest.topology.to_dict(),
        seed=manifest.seed,
        recipe=manifest.recipe,
        options=manifest.options,
        machine=manifest.machine,
        fingerprint=bundle.fingerprint,
        main=main_result(bundle),
        parameters=bundle.main.parameters,
        macs=bundle.main.macs,
        num_networks=len(manifest.networks),
        sweeps=bundle.sweeps,
    )


def experiment_info(bundle: Bundle, methods: list[types.MethodInfo]) -> types.ExperimentInfo:
    """What the catalogue says of an experiment."""
    experiment = bundle.experiment
    channels, height, width = experiment.image_shape
    return types.ExperimentInfo(
        name=experiment.name,
        dataset=experiment.dataset,
        licence=experiment.licence,
        classes=experiment.classes,
        image_shape=(channels, height, width),
        mean=experiment.mean,
        std=experiment.std,
        topology=experiment.topology.to_dict(),
        evaluation_images=_count(experiment.path / "evaluation.npz"),
        calibration_images=_count(experiment.path / "calibration.npz"),
        methods=methods,
    )


def _count(path: Path) -> int:
    with np.load(path, allow_pickle=False) as arrays:
        return len(arrays["labels"])


def networks_of(bundle: Bundle) -> types.Networks:
    """The listed files, with latencies where `latency.json` holds them."""
    path = bundle.path / "latency.json"
    try:
        measured: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        times, on = dict(measured.get("latency_ms", {})), dict(measured.get("latency_on", {}))
    except (ValueError, TypeError, AttributeError) as reason:
        raise BundleError(f"latency.json of {bundle.experiment.name}/{bundle.method} is broken ({reason})") from reason
    networks = [
        types.NetworkInfo(file=file, **asdict(entry), latency_ms=times.get(file, {}))
        for file, entry in bundle.manifest.networks.items()
    ]
    return types.Networks(networks=networks, latency_on=on if times else {})


def finite(value: Any) -> Any:
    """JSON values with what JSON has no word for as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list) else value


def check_spec(bundle: Bundle | None, experiment: Bundle, text: str) -> types.SpecCheck:
    """Whether a text names a sub-network of a bundle, or of the experiment's network when `bundle` is None."""
    topology = experiment.experiment.topology if bundle is None else bundle.topology
    try:
        spec = topology.parse(text)
    except UsageError as reason:
        return types.SpecCheck(valid=False, reason=str(reason))
    return types.SpecCheck(valid=True, spec=str(spec), short=topology.short(spec), kind=topology.kind(spec))
