"""Pieces of a module that computes in one long forward: what runs before its blocks, and what runs after them."""

import copy
from collections.abc import Callable, Collection
from typing import Any, Self

from torch import Tensor, nn

Run = Callable[[Any, Tensor], Tensor]
"""Maps a module and a tensor to a tensor: one step of the module's forward."""


class Piece(nn.Module):
    """Some children of a module, with a step of the module's forward.

    The step may use whatever the module's own functions use: attributes, functions, parameters and the chosen children. Weights
    are those of the module, not copies.

    Args:
        whole: The module; left as it is.
        children: Names of the children that the step uses.
        run: The step.
        parameters: Whether the step uses parameters of the module itself, such as a class token.

    Example:
        >>> import torch
        >>> whole = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> head = Piece(whole, ["2"], lambda module, x: module[-1](x))
        >>> [tuple(parameter.shape) for parameter in head.parameters()]
        [(2, 8), (2,)]
        >>> head(torch.zeros(3, 8)).shape
        torch.Size([3, 2])
    """

    def __init__(self, whole: nn.Module, children: Collection[str], run: Run, *, parameters: bool = False) -> None:
        super().__init__()
        piece = copy.copy(whole)
        # only the dictionaries are new: what they hold is shared
        piece._modules = {name: child for name, child in whole._modules.items() if name in children}
        piece._parameters = dict(whole._parameters) if parameters else {}
        piece._buffers = dict(whole._buffers)
        self.piece, self._run = piece, run

    def forward(self, x: Tensor) -> Tensor:
        """Run the step."""
        return self._run(self.piece, x)

    @classmethod
    def before(cls, whole: nn.Module, body: Collection[str], run: Run) -> Self:
        """Return the piece with the children that are registered before those named in `body`, and with the parameters."""
        names = list(whole._modules)
        first = min(names.index(name) for name in body)
        return cls(whole, names[:first], run, parameters=True)

    @classmethod
    def after(cls, whole: nn.Module, body: Collection[str], run: Run) -> Self:
        """Return the piece with the children that are registered after those named in `body`."""
        names = list(whole._modules)
        last = max(names.index(name) for name in body)
        return cls(whole, names[last + 1 :], run)
