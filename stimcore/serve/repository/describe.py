"""Descriptions of bundles for clients: catalogue entries, stored sweeps, listed networks, and the check of a spec."""

import math
from typing import Any

from stimcore.analysis.intervals import paired_drop, wilson
from stimcore.analysis.result import Result
from stimcore.bundle import Bundle, hits
from stimcore.errors import BundleError, UsageError
from stimcore.serve import types
from stimcore.serve.errors import NotFound
from stimcore.subnets.families import KINDS

MAX_DEPTH = 32
"""Nesting depth of values from files that are sent to clients."""


class StaleSweep(BundleError):
    """A stored sweep of networks that an export has replaced since."""


def stored_sweep(bundle: Bundle, kind: str) -> dict[str, Any] | None:
    """Return a stored sweep as its file holds it, None where there is none.

    Raises:
        NotFound: There is no such family.
        BundleError: The file is broken.
        StaleSweep: It was measured with other networks than those of the bundle.
    """
    if kind not in KINDS:
        raise NotFound(f"there is no family '{kind[:40]}'", allowed=", ".join(KINDS))
    try:
        sweep = bundle.sweep(kind)
        if sweep is not None and not (isinstance(sweep["results"], list) and isinstance(sweep["main"], dict)):
            raise ValueError("no results")
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as reason:
        raise BundleError(f"sweep-{kind}.json of {bundle.experiment.name}/{bundle.method} is broken ({reason})") from reason
    # a bundle of version 1 has no hash of its sweeps, but a sweep names the bundle that it was made of
    if sweep is not None and sweep.get("bundle", bundle.fingerprint) != bundle.fingerprint:
        raise StaleSweep(
            f"sweep-{kind}.json of {bundle.experiment.name}/{bundle.method} was measured with other networks",
            todo="'python -m stimcore.sweep --store' measures these.",
        )
    return sweep


def main_result(bundle: Bundle) -> Result:
    """Return the main network's result on all evaluation images: from a stored sweep, else from the manifest's counts."""
    for kind in bundle.sweeps:
        try:
            sweep = stored_sweep(bundle, kind)
        except StaleSweep:
            continue
        if sweep is not None and sweep["main"]["images"] == bundle.manifest.images:
            return Result.from_dict(sweep["main"])
    correct, images = bundle.main.correct, bundle.manifest.images
    return Result(
        spec=bundle.topology.full,
        correct=correct,
        images=images,
        accuracy_pct=100 * correct / images,
        interval_pct=wilson(correct, images),
        drop_pct=0.0,
        drop_interval_pct=paired_drop(0, 0, images).interval_pct,
    )


def method_info(bundle: Bundle) -> types.MethodInfo:
    """Return the catalogue's entry for a bundle."""
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
        hits=bundle.has(hits.FILE),
        batch_norms=_has_batch_norms(bundle),
    )


def _has_batch_norms(bundle: Bundle) -> bool:
    """Return whether there is something to re-calibrate; of a bundle whose statistics can't be read it is taken to be so."""
    try:
        return bundle.has_batch_norms
    except BundleError:  # its stored numbers can be shown all the same, and whoever runs it is told
        return True


def experiment_info(bundle: Bundle, methods: list[types.MethodInfo]) -> types.ExperimentInfo:
    """Return the catalogue's entry for an experiment.

    Args:
        bundle: Any bundle of the experiment.
        methods: The entries of its bundles.
    """
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
        preprocessing=experiment.preprocessing.to_dict(),
        topology=experiment.topology.to_dict(),
        evaluation_images=experiment.count_images("evaluation.npz"),
        calibration_images=experiment.count_images("calibration.npz"),
        methods=methods,
    )


def networks_of(bundle: Bundle) -> types.Networks:
    """Return the listed files, with latencies where the bundle stores them.

    Raises:
        BundleError: `latency.json` is broken.
    """
    try:
        latency = bundle.latency() or {}
        times, machine = dict(latency.get("latency_ms", {})), dict(latency.get("latency_on", {}))
    except (ValueError, TypeError, AttributeError) as reason:
        raise BundleError(f"latency.json of {bundle.experiment.name}/{bundle.method} is broken ({reason})") from reason
    networks = [
        types.NetworkInfo(
            file=file,
            sha256=entry.sha256,
            bytes=entry.bytes,
            spec=entry.spec,
            accuracy_pct=entry.accuracy_pct,
            correct=entry.correct,
            correct_torch=entry.correct_torch,
            parity=entry.parity,
            agreement=entry.agreement,
            checked_images=entry.checked_images,
            check=entry.check,
            parameters=entry.parameters,
            macs=entry.macs,
            latency_ms=times.get(file, {}),
        )
        for file, entry in bundle.manifest.networks.items()
    ]
    return types.Networks(networks=networks, latency_on=machine if times else {})


def safe_json(value: Any, depth: int = MAX_DEPTH) -> Any:
    r"""Return JSON values without what JSON or UTF-8 can't express, so that a file of a user can't break an answer.

    NaN, infinities and what is nested deeper than `depth` become None; half of a surrogate pair becomes its escape.

    Example:
        >>> safe_json([float("nan"), "caf\ud800", [[1]]], depth=2)
        [None, 'caf\\ud800', [None]]
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return safe_text(value)
    if not isinstance(value, dict | list):
        return value
    if depth == 0:
        return None
    if isinstance(value, dict):
        return {safe_text(key): safe_json(item, depth - 1) for key, item in value.items()}
    return [safe_json(item, depth - 1) for item in value]


def safe_text(text: str) -> str:
    """Return a text that UTF-8 can express: names of files may hold bytes that are not UTF-8, and JSON half a pair."""
    return text.encode("utf-8", "backslashreplace").decode()


def check_spec(bundle: Bundle | None, experiment: Bundle, text: str) -> types.SpecCheck:
    """Check whether a text names a sub-network.

    Args:
        bundle: The network to check against; None for the experiment's whole network.
        experiment: Any bundle of the experiment.
        text: The spec as a client wrote it, in any form.
    """
    topology = experiment.experiment.topology if bundle is None else bundle.topology
    try:
        spec = topology.parse(text)
    except UsageError as reason:
        return types.SpecCheck(valid=False, reason=str(reason))
    return types.SpecCheck(valid=True, spec=str(spec), short=topology.short(spec), kind=topology.kind(spec))
