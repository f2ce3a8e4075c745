"""A network as stem, stages of blocks and head, whose sub-network is an argument of every forward.

`StagedNet` wraps any module and knows which of its sub-modules are stem, blocks and head. The wrapped module keeps the names of
its parameters, so that its checkpoints load key for key.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from torch import Tensor, nn

from stimcore.nets.narrowed import Axes, Narrowed
from stimcore.nets.probe import residual_branches
from stimcore.subnets.part_name import HEAD, STEM, PartKind, PartName
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology


@dataclass(frozen=True)
class Part:
    """One step of the route of a sub-network.

    Attributes:
        name: Name of the part; parts with equal names compute the same.
        module: Maps one tensor to one tensor.
    """

    name: PartName
    module: nn.Module


class StagedNet(nn.Module):
    """A module as stages of blocks.

    `stimcore.nets.own.staged` makes one of any module and checks that the parts fit; the catalogue's networks call this class.

    Args:
        module: The whole network. Only this module is registered, so `state_dict()` has its keys, each after `module.`.
        topology: Stages and removable blocks.
        stem: Runs before the first block.
        blocks: All blocks in order.
        head: Runs after the last block and returns logits `[B, num_classes]`.
        input_shape: `[C, H, W]` of the images that the network was made for.
        num_classes: Width of the logits.
        branch_ends: Block -> the last module of its residual branch, before the shortcut is added. Removable blocks that are
            absent are run to find it: see `residuals`.
        channels_last: Whether inner tensors with four axes are `[B, H, W, C]` instead of `[B, C, H, W]`.
        transitions: Where blocks concatenate: the module after each stage but the last.
        axes: Where blocks concatenate: kind of part -> which axes of its tensors follow the channels.

    Example:
        >>> import torch
        >>> from stimcore.nets.catalogue import build
        >>> net = build("resnet20", input_shape=(3, 32, 32), num_classes=10).eval()
        >>> smallest = net.topology.parse("d1-1-1")
        >>> net(torch.zeros(2, 3, 32, 32), smallest).shape
        torch.Size([2, 10])
        >>> [str(part.name) for part in net.route(smallest)]
        ['stem', 'block1', 'block4', 'block7', 'head']
    """

    def __init__(
        self,
        module: nn.Module,
        topology: Topology,
        *,
        stem: nn.Module,
        blocks: Sequence[nn.Module],
        head: nn.Module,
        input_shape: tuple[int, int, int],
        num_classes: int,
        branch_ends: Mapping[int, nn.Module] | None = None,
        channels_last: bool = False,
        transitions: Sequence[nn.Module] = (),
        axes: Mapping[PartKind, Axes] | None = None,
    ) -> None:
        super().__init__()
        assert len(blocks) == topology.num_blocks
        assert len(transitions) == (0 if topology.channels is None else len(topology.sizes) - 1)
        self.module = module
        self.topology = topology
        self.input_shape, self.num_classes = input_shape, num_classes
        # Kept in plain dicts, in which nn.Module does not search for modules: as registered modules the parts would appear in
        # the state dict a second time.
        self._parts = {
            STEM: stem,
            **{PartName.block(number): block for number, block in enumerate(blocks, 1)},
            **{PartName.transition(number): module for number, module in enumerate(transitions, 1)},
            HEAD: head,
        }
        self._compiled: dict[PartName, nn.Module] = {}
        self.axes_by_kind: dict[PartKind, Axes] = dict(axes or {})
        self.branch_ends: dict[int, nn.Module] = dict(branch_ends or {})
        self.channels_last = channels_last
        self._borrowed = self._find_borrowed()

    def _find_borrowed(self) -> list[tuple[nn.Module, str, nn.Module, str]]:
        """Return the tensors that modules outside of `module` share with it: holder and name there, owner and name there.

        A stem that adds a class token holds a parameter of the module, without being a part of it.
        """
        inside = set(self.module.modules())
        owners: dict[int, tuple[nn.Module, str]] = {}
        for owner in inside:
            for name, tensor in _own_tensors(owner).items():
                owners.setdefault(id(tensor), (owner, name))
        holders = {holder: None for part in self._parts.values() for holder in part.modules() if holder not in inside}
        return [
            (holder, name, *owners[id(tensor)])
            for holder in holders
            for name, tensor in _own_tensors(holder).items()
            if id(tensor) in owners
        ]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Convert all tensors (`to`, `double`, ...); torch may make new ones, which the borrowing modules then get too."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch has no annotation there
        for holder, name, owner, original in self._borrowed:
            tensors = holder._parameters if name in holder._parameters else holder._buffers
            tensors[name] = _own_tensors(owner)[original]  # type: ignore[assignment]  # parameters stay parameters
        return self

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules, also of those that parts are put together with."""
        super().train(mode)
        for part in self._parts.values():
            part.train(mode)
        return self

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Put all modules into evaluation mode inside the block; afterwards each has the mode that it had."""
        parts = (self, *self._parts.values())
        in_training_mode = {module: None for part in parts for module in part.modules() if module.training}
        self.eval()
        try:
            yield
        finally:
            for module in in_training_mode:
                module.training = True

    @property
    def stem(self) -> nn.Module:
        """The module before the first block."""
        return self._parts[STEM]

    @property
    def head(self) -> nn.Module:
        """The module after the last block."""
        return self._parts[HEAD]

    def block(self, number: int) -> nn.Module:
        """Return a block by its number, counted from 1."""
        return self._parts[PartName.block(number)]

    @cached_property
    def residuals(self) -> dict[int, nn.Module]:
        """Block -> the module whose output is the block's residual branch, for every block with a branch that can be scaled.

        It is the block itself where nothing follows the addition: the branch is then what the block adds to its input. Blocks
        that `branch_ends` lacks are run once to find it.
        """
        wanted = [block for block in self.topology.removable if block not in self.branch_ends]
        if not wanted:
            return self.branch_ends
        blocks = [self.block(number) for number in range(1, self.topology.num_blocks + 1)]
        with self.evaluating():
            branches = residual_branches(self.stem, blocks, self.input_shape, wanted)
        return self.branch_ends | branches

    def axes(self, part: PartName) -> Axes:
        """Return which axes of a part's tensors follow its channels; empty where blocks don't concatenate."""
        return self.axes_by_kind.get(part.kind, {})

    def with_head(self, head: nn.Module) -> "StagedNet":
        """Return this network with another head; all modules are shared and the state dict stays the same.

        Args:
            head: A module with exactly the parameters of the present head, under the same names.
        """
        return StagedNet(
            self.module,
            self.topology,
            stem=self.stem,
            blocks=[part for name, part in self._parts.items() if name.kind == "block"],
            head=head,
            input_shape=self.input_shape,
            num_classes=self.num_classes,
            branch_ends=self.branch_ends,
            channels_last=self.channels_last,
            transitions=[part for name, part in self._parts.items() if name.kind == "transition"],
            axes=self.axes_by_kind,
        )

    def route(self, spec: Spec) -> list[Part]:
        """Return the parts that run for a spec, in order. Two specs share a prefix as far as the names of their parts agree.

        Raises:
            SpecError: The network has no such sub-network.
        """
        return [Part(name, self._part(name)) for name in self.topology.route(spec)]

    def _part(self, name: PartName) -> nn.Module:
        kept = self.topology.kept_channels(name)
        if kept is None:
            return self._compiled.get(name, self._parts[name])
        return Narrowed(self._parts[kept.part], self.axes(kept.part), kept)

    def forward(self, images: Tensor, spec: Spec | None = None) -> Tensor:
        """Return the logits of a sub-network.

        Args:
            images: `[B, C, H, W]`, normalised.
            spec: The sub-network; the main network when None.

        Returns:
            Logits `[B, num_classes]`.

        Raises:
            SpecError: The network has no such sub-network.
        """
        out = images
        for part in self.route(self.topology.full if spec is None else spec):
            out = part.module(out)
        return out

    def replace(self, change: Callable[[nn.Module], nn.Module | None]) -> None:
        """Replace modules by others, in every place where they are used.

        One module may have several parents: `module` registers it, and a stem or head that was put together from parts of
        `module` contains it too. It is replaced by one and the same new module in all of them.

        Args:
            change: Returns the replacement of a module, or None to leave it.
        """
        replacements: dict[nn.Module, nn.Module] = {}
        parents = {parent: None for part in (self.module, *self._parts.values()) for parent in part.modules()}
        for parent in parents:
            for name, child in parent.named_children():
                if child not in replacements and (other := change(child)) is not None:
                    replacements[child] = other
                if child in replacements:
                    setattr(parent, name, replacements[child])
        self._parts = {name: replacements.get(part, part) for name, part in self._parts.items()}
        self.branch_ends = {block: replacements.get(end, end) for block, end in self.branch_ends.items()}
        self.__dict__.pop("residuals", None)

    def compile_blocks(self, compiler: Callable[[nn.Module], nn.Module]) -> None:
        """Run every whole part in compiled form from now on; parameters stay shared.

        Narrowed parts are not compiled, because each of the many widths would be compiled separately.

        Args:
            compiler: Returns the compiled form of a module: `torch.compile`.
        """
        self._compiled = {name: compiler(part) for name, part in self._parts.items()}


def _own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a module itself, without those of its children."""
    tensors = {**module._parameters, **module._buffers}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def prefix_length(a: Sequence[Part], b: Sequence[Part]) -> int:
    """Return the number of leading parts that two routes share."""
    length = 0
    for one, other in zip(a, b, strict=False):
        if one.name != other.name:
            break
        length += 1
    return length
