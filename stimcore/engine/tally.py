"""Counts over batches of images: a sub-network's logits compared with the labels and with the main network."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stimcore.analysis.result import Result
from stimcore.engine.inference import Floats
from stimcore.subnets.spec import Spec


class Reference:
    """The main network on one batch of images, computed once for all sub-networks that are compared with it.

    Args:
        logits: `[B, K]`.
        labels: int64 `[B]`.
    """

    def __init__(self, logits: Floats, labels: NDArray[np.int64]) -> None:
        self.labels = labels
        self.right: NDArray[np.bool_] = logits.argmax(1) == labels
        self.log_p = log_softmax(logits)
        self.p = np.exp(self.log_p)


@dataclass
class Tally:
    """Running sums of one sub-network.

    Attributes:
        images: Images seen.
        correct: Images that were classified correctly.
        lost: Images that the main network classifies correctly and the sub-network does not.
        won: Images that the sub-network classifies correctly and the main network does not.
        ce: Sum of cross entropies, in nats.
        kl: Sum of KL(main || sub-network), in nats.
        max_ce: Largest cross entropy of one image, in nats.

    Example:
        >>> reference = Reference(np.array([[2, 0], [0, 1]], np.float32), labels=np.array([0, 0]))
        >>> tally = Tally()
        >>> tally.add(np.array([[0, 3], [1, 0]], np.float32), reference).tolist()
        [False, True]
        >>> tally.images, tally.correct, tally.lost, tally.won
        (2, 1, 1, 1)
        >>> tally.result(Spec.from_text("1.3")).accuracy_pct
        50.0
    """

    images: int = 0
    correct: int = 0
    lost: int = 0
    won: int = 0
    ce: float = 0.0
    kl: float = 0.0
    max_ce: float = 0.0

    def add(self, logits: Floats, main: Reference) -> NDArray[np.bool_]:
        """Add one batch of logits `[B, K]`, compared with the main network's on the same images.

        Returns:
            Bool `[B]`: the images that were classified correctly.
        """
        right: NDArray[np.bool_] = logits.argmax(1) == main.labels
        log_p = log_softmax(logits)
        ce = -log_p[np.arange(len(main.labels)), main.labels]
        self.images += len(main.labels)
        self.correct += int(right.sum())
        self.lost += int((main.right & ~right).sum())
        self.won += int((right & ~main.right).sum())
        self.ce += float(ce.sum())
        self.kl += float((main.p * (main.log_p - log_p)).sum())
        self.max_ce = max(self.max_ce, float(ce.max()))
        return right

    def result(self, spec: Spec) -> Result:
        """Return the result on the images so far; at least one image was added."""
        return Result.counted(
            spec,
            images=self.images,
            correct=self.correct,
            lost=self.lost,
            won=self.won,
            ce_nats=self.ce / self.images,
            # a KL divergence is never negative, a sum of rounded terms may be
            kl_nats=max(0.0, self.kl / self.images),
            max_ce_nats=self.max_ce,
        )


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """Return log probabilities `[B, K]`, computed in float64."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    log_p: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return log_p
