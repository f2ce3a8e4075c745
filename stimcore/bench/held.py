"""How many bytes of CPU tensors are alive, followed operator by operator."""

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Held(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no annotation there
    """Inside, follows every storage that an operator returns, forward and backward, until it is released.

    What a kernel allocates and releases within itself is not seen; it is the same for all variants of a step.

    Args:
        there: Tensors that exist before; they count from the start.

    Attributes:
        peak_bytes: Largest sum so far.
    """

    def __init__(self, there: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no annotation there
        self.bytes = self.peak_bytes = 0
        self._sizes: dict[int, int] = {}
        for tensor in there:
            self._add(tensor.untyped_storage())

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                self._add(value.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.bytes += storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, self.bytes)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.bytes -= self._sizes.pop(key)
