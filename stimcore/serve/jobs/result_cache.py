"""Results that need no measuring: those of sweeps that bundles store, and those that this server measured before."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stimcore.analysis.result import Result
from stimcore.bundle import Bundle
from stimcore.errors import BundleError, SpecError
from stimcore.serve.repository.describe import stored_sweep
from stimcore.subnets.families import KINDS
from stimcore.subnets.spec import Spec


@dataclass(frozen=True)
class Conditions:
    """Everything that a result depends on, except the spec and the execution provider.

    Attributes:
        fingerprint: Fingerprint of the bundle.
        experiment: Hash of the experiment: images, preprocessing and classes.
        recalibrate: Whether batch norms were re-calibrated.
        max_images: Number of images that were asked for; None for all.
    """

    fingerprint: str
    experiment: str
    recalibrate: bool
    max_images: int | None


@dataclass(frozen=True)
class StoredResults:
    """The results of a bundle's stored sweeps.

    Attributes:
        provider: The execution provider that measured all of them.
        results: Spec -> result.
    """

    provider: str
    results: Mapping[Spec, Result]


class ResultCache:
    """Results by conditions, execution provider and spec.

    The provider is part of the key because results of a CPU and of a GPU may differ in an image or two; a client never gets a
    mixture of both.

    Args:
        limit: Measured results that are kept; the least recently used are dropped first.

    Attributes:
        hits: Jobs that were answered without measuring.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.hits = 0
        self._measured: OrderedDict[tuple[Conditions, str, Spec], Result] = OrderedDict()
        self._stored: Mapping[Conditions, StoredResults] = {}

    def __len__(self) -> int:
        return len(self._measured)

    def put_stored(self, stored: Mapping[Conditions, StoredResults]) -> None:
        """Replace the results of stored sweeps; see `read_stored`."""
        self._stored = stored

    def stored(self, conditions: Conditions) -> StoredResults | None:
        """Return the results of stored sweeps, None where there are none."""
        return self._stored.get(conditions)

    def measured(self, conditions: Conditions, provider: str, spec: Spec) -> Result | None:
        """Return a result that this server measured, None where there is none."""
        key = (conditions, provider, spec)
        result = self._measured.get(key)
        if result is not None:
            self._measured.move_to_end(key)
        return result

    def add(self, conditions: Conditions, provider: str, results: Iterable[Result]) -> None:
        """Keep results that were measured."""
        for result in results:
            key = (conditions, provider, result.spec)
            self._measured[key] = result
            self._measured.move_to_end(key)
        while len(self._measured) > self.limit:
            self._measured.popitem(last=False)


def conditions_of(bundle: Bundle, recalibrate: bool, max_images: int | None) -> Conditions:
    """Return the conditions of a request; a `max_images` that covers all images counts as None."""
    everything = max_images is None or max_images >= bundle.manifest.images
    return Conditions(bundle.fingerprint, bundle.experiment.sha256, recalibrate, None if everything else max_images)


def read_stored(bundles: Iterable[Bundle]) -> dict[Conditions, StoredResults]:
    """Read the stored sweeps of bundles; sweeps that are broken or do not fit their bundle are left out."""
    stored = {conditions_of(bundle, True, None): _read_sweeps(bundle) for bundle in bundles}
    return {conditions: results for conditions, results in stored.items() if results is not None}


def _read_sweeps(bundle: Bundle) -> StoredResults | None:
    """Return the results of all sweeps that were made of this very bundle, of all its images, by one provider."""
    provider, results = "", dict[Spec, Result]()
    for kind in KINDS:
        try:
            sweep = stored_sweep(bundle, kind)
            if sweep is None or sweep["images"] != bundle.manifest.images:
                continue
            if sweep.get("bundle", bundle.fingerprint) != bundle.fingerprint or sweep["method"] != bundle.method:
                continue
            if provider not in ("", sweep["provider"]):
                continue
            of_sweep = [Result.from_dict(row) for row in (*sweep["results"], sweep["main"])]
            provider = str(sweep["provider"])
        except (BundleError, SpecError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
            continue  # a stored sweep only saves work: without it the results are measured
        results |= {result.spec: result for result in of_sweep}
    return StoredResults(provider, results) if results else None
