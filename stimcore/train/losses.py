"""The losses of an epoch, added up where they are computed, so that no step waits for the device."""

import torch
from torch import Tensor

from stimcore.methods.base import Losses


class LossMeter:
    """Sums of named losses over the steps of an epoch, in float64 on their own device.

    Reading a loss on the processor waits until a GPU has computed it. The sums are therefore read once per epoch, and whether
    all losses were finite every so many steps.

    Example:
        >>> meter = LossMeter()
        >>> for value in (1.0, 3.0):
        ...     meter.add({"loss": torch.tensor(value)})
        >>> meter.means(), meter.first_not_finite()
        ({'loss': 2.0}, None)
    """

    def __init__(self) -> None:
        self.steps = 0
        self._sums: dict[str, Tensor] = {}
        self._last: Tensor | None = None
        self._bad: Tensor | None = None  # [2]: number of the first step whose loss was not finite (-1 for none), and the loss

    def add(self, losses: Losses) -> None:
        """Add the losses of one step; nothing is read."""
        for name, value in losses.items():
            sum_ = self._sums.get(name)
            self._sums[name] = value.double() if sum_ is None else sum_ + value
        loss = losses["loss"]
        before = torch.full((2,), -1.0, dtype=torch.float64, device=loss.device) if self._bad is None else self._bad
        now = torch.stack([torch.full_like(before[0], self.steps), loss.detach().double()])
        self._bad = torch.where((before[0] < 0) & ~torch.isfinite(loss), now, before)
        self._last = loss
        self.steps += 1

    def last(self) -> float:
        """Return the loss of the last step; waits for the device."""
        assert self._last is not None, "no step was added"
        return float(self._last)

    def first_not_finite(self) -> tuple[int, float] | None:
        """Return the number, from 0, of the first step whose loss was not finite, and that loss; waits for the device."""
        if self._bad is None:
            return None
        step, loss = self._bad.tolist()
        return None if step < 0 else (int(step), loss)

    def means(self) -> dict[str, float]:
        """Return the mean of every loss over all steps; waits for the device."""
        return {name: float(sum_) / self.steps for name, sum_ in self._sums.items()}
