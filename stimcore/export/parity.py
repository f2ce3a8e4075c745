"""The parity check: whether two implementations of a network give the same logits for the evaluation images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stimcore.bundle import Experiment
from stimcore.engine.spotcheck import CHECK_BATCH

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Tolerance:
    """How far two implementations of a network may differ.

    Attributes:
        error: Largest difference of logits, divided by the largest logit.
        agreement: Smallest share of images for which both give the same class.
    """

    error: float
    agreement: float


FLOAT32 = Tolerance(1e-4, 0.999)
FLOAT16 = Tolerance(2e-2, 0.99)
"""Half precision rounds weights and activations to 11 bits."""


@dataclass(frozen=True)
class Parity:
    """How far the logits of a network differ from those of its reference.

    Attributes:
        error: Largest difference of logits, divided by the largest logit of the reference.
        agreement: Share of images for which both give the same class.

    Example:
        >>> logits = np.array([[1, 0], [0, 2]], np.float32)
        >>> Parity.of(logits + np.float32(0.5), logits)
        Parity(error=0.25, agreement=1.0)
    """

    error: float
    agreement: float

    @classmethod
    def of(cls, logits: Floats, reference: Floats) -> Self:
        """Return the parity of logits `[N, K]`."""
        return cls(
            error=float(np.abs(logits - reference).max() / np.abs(reference).max()),
            agreement=float((logits.argmax(1) == reference.argmax(1)).mean()),
        )

    def differing(self, images: int) -> int:
        """Return on how many of so many images the two choose different classes.

        Example:
            >>> Parity(error=1e-6, agreement=0.999).differing(1000)
            1
        """
        return round((1 - self.agreement) * images)

    def complaint(self, name: str, tolerance: Tolerance) -> str | None:
        """Return why a file is not accepted, None when it is.

        Args:
            name: Name of the file.
            tolerance: The allowed difference.
        """
        if not np.isfinite(self.error):
            return (
                f"{name} can't be compared with its reference: logits are not finite (NaN or infinity), or all logits of the "
                "reference are 0"
            )
        # a comparison with NaN is false: written this way round, an agreement that is no number is refused
        if not self.error <= tolerance.error:
            return (
                f"{name} differs from its reference by {self.error:.1e} of the largest logit (allowed: {tolerance.error:.0e})"
            )
        if not self.agreement >= tolerance.agreement:
            return (
                f"{name} agrees with its reference on {100 * self.agreement:.2f}% of the images "
                f"(allowed: {100 * tolerance.agreement:g}% and more)"
            )
        return None


def spread(total: int, count: int) -> NDArray[np.int64]:
    """Return `count` indices spread evenly over `total` images: the images of a folder are sorted by class.

    Example:
        >>> spread(10, 4).tolist(), spread(2, 4).tolist()
        ([0, 3, 6, 9], [0, 1])
    """
    return np.linspace(0, total - 1, min(count, total)).astype(np.int64)


def evaluation_logits(
    run: Callable[[NDArray[Any]], Floats],
    experiment: Experiment,
    prepare: Callable[[NDArray[np.uint8]], NDArray[Any]] | None = None,
    *,
    sample: NDArray[np.int64] | None = None,
) -> Floats:
    """Return the logits `[N, K]` of a network for evaluation images.

    Args:
        run: Returns the logits of a batch of prepared images.
        experiment: The experiment with the images.
        prepare: Makes a batch of stored images what `run` takes; the experiment's preprocessing when None.
        sample: Indices of the images; all when None.
    """
    pixels, prepare = experiment.evaluation[0], prepare or experiment.normalise
    pixels = pixels if sample is None else pixels[sample]
    batches = [pixels[start : start + CHECK_BATCH] for start in range(0, len(pixels), CHECK_BATCH)]
    return np.concatenate([run(prepare(batch)) for batch in batches])
