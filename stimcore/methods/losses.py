"""The loss terms that methods share. All reduce in at least float32, whatever the logits came in."""

import torch
from torch import Tensor
from torch.nn import functional as F


def precise(values: Tensor) -> Tensor:
    """float32 where the values have less, unchanged where they have that or more."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy in nats of logits `[B, K]` and labels `[B]`."""
    return F.cross_entropy(precise(logits), labels, label_smoothing=label_smoothing)


def kl_divergence(main: Tensor, sub: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(main || sub) in nats, averaged over the batch; the main logits are a constant.

    Args:
        main: `[B, K]` logits that are pulled toward; detached here.
        sub: `[B, K]` logits that learn.
        temperature: Both are divided by it and the result multiplied by its square, as gradients would shrink otherwise.

    Source: paper, equation 2 and Algorithm 1.
    """
    target = F.log_softmax(precise(main.detach()) / temperature, dim=1)
    log_prob = F.log_softmax(precise(sub) / temperature, dim=1)
    return F.kl_div(log_prob, target, reduction="batchmean", log_target=True) * temperature**2


def soft_cross_entropy(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross entropy in nats of softened predictions, averaged over the batch; the teacher is a constant.

    Args:
        teacher: `[B, K]` logits whose softmax is the target; detached here.
        student: `[B, K]` logits that learn.
        temperature: Divides both; the result is not multiplied by its square.

    Source: Zhang et al. 2019, "Be your own teacher", as docs/semantics.md writes it.
    """
    target = F.softmax(precise(teacher.detach()) / temperature, dim=1)
    return F.cross_entropy(precise(student) / temperature, target)


def batch_feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """One Euclidean distance of all features `[B, C]` of a batch; the teacher is a constant.

    The square root of the sum of squares over images and channels: it grows with the root of the batch size.

    Source: the authors' code of Zhang et al. 2019, "Be your own teacher".
    """
    difference = precise(student) - precise(teacher.detach())
    distance: Tensor = torch.linalg.vector_norm(difference)  # gradient 0 at 0
    return distance


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Euclidean distance of feature vectors `[B, C]`, averaged over the batch; the teacher is a constant."""
    distances: Tensor = torch.linalg.vector_norm(precise(student) - precise(teacher.detach()), dim=1)  # gradient 0 at 0
    return distances.mean()
