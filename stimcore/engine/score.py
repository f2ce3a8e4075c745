"""What an evaluation says of one sub-network: counts, accuracy, paired drop, cross entropy, divergence from the main one."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stimcore.analysis.intervals import PairedDrop, paired_drop, wilson
from stimcore.subnets.topology import Spec

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Score:
    """What is known of one sub-network so far.

    Attributes:
        images: Seen.
        correct: Of these.
        lost: Right in the main network and wrong here.
        won: Wrong in the main network and right here.
        ce_nats: Mean cross entropy.
        kl_nats: Mean KL(main || this).
        max_ce_nats: Largest cross entropy of one image (eps1 of the paper's Appendix B, for the main network).
    """

    spec: Spec
    images: int
    correct: int
    lost: int
    won: int
    ce_nats: float
    kl_nats: float
    max_ce_nats: float

    @property
    def accuracy_pct(self) -> float:
        """In percent."""
        return 100 * self.correct / self.images

    @property
    def interval_pct(self) -> tuple[float, float]:
        """95%, Wilson."""
        return wilson(self.correct, self.images)

    @property
    def drop(self) -> PairedDrop:
        """Against the main network on the same images."""
        return paired_drop(self.lost, self.won, self.images)

    def to_dict(self) -> dict[str, object]:
        """One result in the form that commands, sweeps and the server share."""
        return {
            "spec": str(self.spec),
            "correct": self.correct,
            "images": self.images,
            "accuracy_pct": round(self.accuracy_pct, 6),
            "interval_pct": [round(v, 6) for v in self.interval_pct],
            "drop_pct": round(self.drop.drop_pct, 6),
            "drop_interval_pct": [round(v, 6) for v in self.drop.interval_pct],
            "ce_nats": round(self.ce_nats, 6),
            "kl_nats": round(self.kl_nats, 6),
            "max_ce_nats": round(self.max_ce_nats, 6),
        }


@dataclass
class Tally:
    """Adds up what batches of images say of one sub-network beside the main one."""

    images: int = 0
    correct: int = 0
    lost: int = 0
    won: int = 0
    ce: float = 0.0
    kl: float = 0.0
    max_ce: float = 0.0

    def add(self, logits: Floats, main: "Reference") -> None:
        """One batch of logits `[B, K]` beside the main network's on the same images."""
        right = logits.argmax(1) == main.labels
        log_p = log_softmax(logits)
        ce = -log_p[np.arange(len(main.labels)), main.labels]
        self.images += len(main.labels)
        self.correct += int(right.sum())
        self.lost += int((main.right & ~right).sum())
        self.won += int((right & ~main.right).sum())
        self.ce += float(ce.sum())
        self.kl += float((main.p * (main.log_p - log_p)).sum())
        self.max_ce = max(self.max_ce, float(ce.max()))

    def score(self, spec: Spec) -> Score:
        """What is known so far; at least one image was added."""
        n = self.images
        return Score(spec, n, self.correct, self.lost, self.won, self.ce / n, max(0.0, self.kl / n), self.max_ce)


class Reference:
    """The main network on one batch of images.

    Args:
        logits: `[B, K]`.
        labels: int64 `[B]`.
    """

    def __init__(self, logits: Floats, labels: NDArray[np.int64]) -> None:
        self.labels = labels
        self.right: NDArray[np.bool_] = logits.argmax(1) == labels
        self.log_p = log_softmax(logits)
        self.p = np.exp(self.log_p)


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """Log probabilities `[B, K]` in float64."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return found


@dataclass(frozen=True)
class Progress:
    """A report from a running evaluation.

    Attributes:
        phase: `calibrate` or `evaluate`.
        images: Evaluated so far, or calibration images done.
        images_total: In all.
        scores: Spec -> what is known; with the main network among them; empty while calibrating.
    """

    phase: str
    images: int
    images_total: int
    scores: dict[Spec, Score] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether every image was seen."""
        return self.phase == "evaluate" and self.images == self.images_total
