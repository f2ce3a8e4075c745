"""`hits.npz`: for many sub-networks one bit per evaluation image, set where the answer was right.

Differences between two networks on the same images have far narrower intervals when they are paired image by image, for which
these bits are needed.
"""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from stimcore.subnets.families import without
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology

FILE = "hits.npz"


@dataclass(frozen=True)
class Hits:
    """Which evaluation images sub-networks classify correctly.

    Attributes:
        images: Number of evaluation images.
        packed: Sub-network -> uint8 `[ceil(images / 8)]`, eight images per byte, the first in the highest bit.

    Example:
        >>> hits = Hits(3, {}).with_rows({Spec.from_text("1.3"): np.array([True, False, True])})
        >>> hits.of(Spec.from_text("1.3")).tolist(), hits.of(Spec.from_text("1")) is None
        ([True, False, True], True)
    """

    images: int
    packed: Mapping[Spec, NDArray[np.uint8]]

    def of(self, spec: Spec) -> NDArray[np.bool_] | None:
        """Return bool `[images]` for a sub-network, None where nothing is stored of it."""
        row = self.packed.get(spec)
        return None if row is None else np.unpackbits(row, count=self.images).astype(np.bool_)

    def with_rows(self, rows: Mapping[Spec, NDArray[np.bool_]]) -> "Hits":
        """Return these hits together with further ones, bool `[images]` each; these replace older ones of the same spec.

        Raises:
            ValueError: A row is of another number of images.
        """
        for spec, row in rows.items():
            if row.shape != (self.images,):
                raise ValueError(f"hits of {spec} on {row.shape} images, not on {self.images}")
        return Hits(self.images, {**self.packed, **{spec: np.packbits(row) for spec, row in rows.items()}})

    def to_bytes(self) -> bytes:
        """Return the content of `hits.npz`. Equal hits give equal bytes, in whatever order they were added."""
        specs = sorted(self.packed)
        rows = np.array([self.packed[spec] for spec in specs], np.uint8).reshape(len(specs), -(-self.images // 8))
        buffer = io.BytesIO()
        names = np.array([str(spec) for spec in specs], np.str_)
        np.savez_compressed(buffer, specs=names, hits=rows, images=np.int64(self.images))
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Hits":
        """Return the hits that `to_bytes` wrote.

        Raises:
            ValueError: The content is something else.
            SpecError: A name is not that of a sub-network.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                specs, rows, images = arrays["specs"], arrays["hits"], int(arrays["images"])
        except (OSError, KeyError, TypeError, EOFError, BadZipFile) as reason:
            raise ValueError(f"not a file of hits ({type(reason).__name__})") from reason
        if rows.dtype != np.uint8 or rows.shape != (len(specs), -(-images // 8)):
            raise ValueError(f"hits of the shape {rows.shape} for {len(specs)} sub-networks and {images} images")
        return cls(images, {Spec.from_text(str(text)): row for text, row in zip(specs, rows, strict=True)})


def stored_specs(topology: Topology, specs: Iterable[Spec]) -> list[Spec]:
    """Return the specs whose hits a bundle stores: the main network, ordered sub-networks and deletions of one block.

    All others (larger deletions, permutations) would take several times the space of everything else in a bundle.
    """
    single = {without(topology, [block]) for block in topology.removable}
    return [spec for spec in specs if spec in single or topology.depths(spec) is not None]
