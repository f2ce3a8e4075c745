"""Results that are known already: of stored sweeps, and of what was measured here. JSON texts, as the worker wrote them."""

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stimcore.bundle import Bundle
from stimcore.errors import BundleError
from stimcore.serve.repository.describe import stored_sweep
from stimcore.serve.repository.repository import data_hash
from stimcore.subnets.families import KINDS


@dataclass(frozen=True)
class Conditions:
    """What a result depends on besides its spec.

    Attributes:
        fingerprint: Of the bundle.
        data: Hash of images, normalisation, classes.
        recalibrate: Whether batch norms were re-calibrated.
        max_images: How many images were asked for; None for all.
    """

    fingerprint: str
    data: str
    recalibrate: bool
    max_images: int | None


@dataclass(frozen=True)
class Stored:
    """Results of a bundle's stored sweeps, and what they were measured with."""

    provider: str
    results: Mapping[str, bytes]


class ResultCache:
    """Results by conditions, provider and spec.

    Args:
        limit: Measured results that are remembered; the least recently used go first.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.hits = 0
        self._measured: OrderedDict[tuple[Conditions, str, str], bytes] = OrderedDict()
        self._stored: dict[Conditions, Stored] = {}

    def __len__(self) -> int:
        return len(self._measured)

    def put_stored(self, bundles: Iterable[Bundle]) -> None:
        """Forgets stored sweeps and takes up those of `bundles`; broken ones are left out."""
        self._stored = {conditions(b, True, None): stored for b in bundles if (stored := _stored(b)) is not None}

    def stored(self, on: Conditions) -> Stored | None:
        """Results of stored sweeps."""
        return self._stored.get(on)

    def measured(self, on: Conditions, provider: str, spec: str) -> bytes | None:
        """A result that was measured here on the same provider."""
        key = (on, provider, spec)
        if (found := self._measured.get(key)) is not None:
            self._measured.move_to_end(key)
        return found

    def add(self, on: Conditions, provider: str, results: Mapping[str, bytes]) -> None:
        """Remembers what was measured."""
        for spec, text in results.items():
            self._measured[on, provider, spec] = text
            self._measured.move_to_end((on, provider, spec))
        while len(self._measured) > self.limit:
            self._measured.popitem(last=False)


def conditions(bundle: Bundle, recalibrate: bool, max_images: int | None) -> Conditions:
    """The conditions of a request; all images are all images however they were asked for."""
    everything = max_images is None or max_images >= bundle.manifest.images
    return Conditions(bundle.fingerprint, data_hash(bundle), recalibrate, None if everything else max_images)


def _stored(bundle: Bundle) -> Stored | None:
    """All sweeps of a bundle that fit it: made of this bundle, of all its images, by one provider."""
    provider, results = "", dict[str, bytes]()
    for kind in KINDS:
        try:
            sweep = stored_sweep(bundle, kind)
            if sweep is None or sweep["images"] != bundle.manifest.images:
                continue
            if sweep.get("bundle", bundle.fingerprint) != bundle.fingerprint or sweep["method"] != bundle.method:
                continue
            if provider not in ("", sweep["provider"]):
                continue
            provider = str(sweep["provider"])
            results |= {row["spec"]: json.dumps(row, allow_nan=False).encode() for row in (*sweep["results"], sweep["main"])}
        except (BundleError, KeyError, TypeError, ValueError):
            continue  # a stored sweep spares work; without it the work is done
    return Stored(provider, results) if results else None
