"""The loss terms that methods share. All are computed in at least float32, whatever the precision of the logits."""

import torch
from torch import Tensor
from torch.nn import functional as F


def at_least_float32(values: Tensor) -> Tensor:
    """Return float32 in place of a lower precision; float32 and float64 stay as they are."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross entropy, in nats, of logits `[B, K]` and labels `[B]`."""
    return F.cross_entropy(at_least_float32(logits), labels, label_smoothing=label_smoothing)


def kl_divergence(main: Tensor, sub: Tensor, temperature: float = 1.0) -> Tensor:
    """Return KL(main || sub) in nats, averaged over the batch.

    Args:
        main: `[B, K]` logits of the teacher; a constant: they are detached here.
        sub: `[B, K]` logits of the student.
        temperature: Divides both. The result is multiplied by its square, because dividing the logits makes the gradient
            smaller by about that factor.

    Source: paper, equation 2 and Algorithm 1.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0]])
        >>> kl_divergence(logits, logits).item(), round(kl_divergence(logits, -logits).item(), 4)
        (0.0, 1.5232)
    """
    target = F.log_softmax(at_least_float32(main.detach()) / temperature, dim=1)
    log_prob = F.log_softmax(at_least_float32(sub) / temperature, dim=1)
    return F.kl_div(log_prob, target, reduction="batchmean", log_target=True) * temperature**2


def soft_cross_entropy(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the cross entropy, in nats, of softened predictions, averaged over the batch.

    Args:
        teacher: `[B, K]` logits whose softmax is the target; a constant: they are detached here.
        student: `[B, K]` logits of the student.
        temperature: Divides both; the result is not multiplied by its square.

    Source: Zhang et al. 2019, "Be your own teacher", in the form of docs/semantics.md, "Other training methods".
    """
    target = F.softmax(at_least_float32(teacher.detach()) / temperature, dim=1)
    return F.cross_entropy(at_least_float32(student) / temperature, target)


def batch_feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return one Euclidean distance over all features `[B, C]` of a batch; the teacher is a constant.

    It is the square root of the sum of squares over images and channels, so it grows with the square root of the batch size.

    Source: the authors' code of Zhang et al. 2019, "Be your own teacher".
    """
    difference = at_least_float32(student) - at_least_float32(teacher.detach())
    distance: Tensor = torch.linalg.vector_norm(difference)  # its gradient at 0 is 0, not NaN
    return distance


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the Euclidean distance of each image's features `[B, C]`, averaged over the batch; the teacher is a constant."""
    distances: Tensor = torch.linalg.vector_norm(
        at_least_float32(student) - at_least_float32(teacher.detach()), dim=1
    )  # its gradient at 0 is 0, not NaN
    return distances.mean()
