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
        parameters: Names of the module's own parameters that the step uses, such as a class token.

    Example:
        >>> import torch
        >>> whole = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> head = Piece(whole, ["2"], lambda module, x: module[-1](x))
        >>> [tuple(parameter.shape) for parameter in head.parameters()]
        [(2, 8), (2,)]
        >>> head(torch.zeros(3, 8)).shape
        torch.Size([3, 2])
    """

    def __init__(self, whole: nn.Module, children: Collection[str], run: Run, *, parameters: Collection[str] = ()) -> None:
        super().__init__()
        piece = copy.copy(whole)
        # only the dictionaries are new: what they hold is shared
        piece._modules = {name: child for name, child in whole._modules.items() if name in children}
        piece._parameters = {name: value for name, value in whole._parameters.items() if name in parameters}
        piece._buffers = dict(whole._buffers)
        self.piece, self._run = piece, run

    def forward(self, x: Tensor) -> Tensor:
        """Run the step."""
        return self._run(self.piece, x)

    @classmethod
    def before(cls, whole: nn.Module, body: Collection[str], run: Run, *, without: Collection[str] = ()) -> Self:
        """Return the piece with the children that are registered before those named in `body`, and with the parameters.

        Args:
            whole: The module.
            body: Names of the children that hold the blocks.
            run: The step.
            without: Names of the module's own parameters that another piece has: each parameter belongs to one part.
        """
        names = list(whole._modules)
        first = min(names.index(name) for name in body)
        return cls(whole, names[:first], run, parameters=[name for name in whole._parameters if name not in without])

    @classmethod
    def after(cls, whole: nn.Module, body: Collection[str], run: Run, *, parameters: Collection[str] = ()) -> Self:
        """Return the piece with the children that are registered after those named in `body`.

        Args:
            whole: The module.
            body: Names of the children that hold the blocks.
            run: The step.
            parameters: Names of the module's own parameters that the step uses.
        """
        names = list(whole._modules)
        last = max(names.index(name) for name in body)
        return cls(whole, names[last + 1 :], run, parameters=parameters)
