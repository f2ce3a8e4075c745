"""Bytes of CPU tensors that are alive, counted operator by operator."""

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensorBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no annotation there
    """A context that counts every storage which an operator returns, forward and backward, until it is released.

    Memory that a kernel allocates and releases internally is not seen; it is the same for all variants of a step.

    Args:
        existing: Tensors that exist before; they count from the start.

    Attributes:
        bytes: Bytes of the storages that are alive now.
        peak_bytes: Largest value of `bytes` so far.
    """

    def __init__(self, existing: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no annotation there
        self.bytes = self.peak_bytes = 0
        self._sizes: dict[int, int] = {}
        for tensor in existing:
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
        # views share their base's storage; it counts once, and until the last of them is gone
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.bytes -= self._sizes.pop(key)
