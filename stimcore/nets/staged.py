"""A network as `stem -> stage 1 .. stage S -> head`, whose sub-networks are chosen by an argument.

`StagedNet` wraps any module and knows which of its sub-modules are stem, blocks and head. The wrapped module keeps its own
parameter names, so that its checkpoints load key for key. Knows nothing of training or of ONNX.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from stimcore.nets.narrowed import Axes, Narrowed
from stimcore.subnets.part_name import HEAD, STEM, PartKind, PartName
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology


@dataclass(frozen=True)
class Part:
    """One step of a route through a network.

    Attributes:
        name: Parts with equal names compute the same.
        module: Maps one tensor to one tensor.
    """

    name: PartName
    module: nn.Module


class StagedNet(nn.Module):
    """A module seen as stages of blocks.

    Args:
        module: The whole network; it alone is registered, so `state_dict()` has its keys (behind `module.`).
        topology: Stages, and which blocks may go.
        stem: What runs before the first block.
        blocks: All blocks in order.
        head: What runs after the last block and gives logits `[B, num_classes]`.
        input_shape: `[C, H, W]` of the images it was made for.
        num_classes: Width of the logits.
        branch_ends: Block -> the last module of its residual branch, before the shortcut is added.
        transitions: Where blocks concatenate: what runs between two stages, one less than there are stages.
        axes: Where blocks concatenate: for `block`, `transition` and `head` which axes of their tensors follow the channels.
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
        branch_ends: dict[int, nn.Module] | None = None,
        transitions: Sequence[nn.Module] = (),
        axes: Mapping[PartKind, Axes] | None = None,
    ) -> None:
        super().__init__()
        assert len(blocks) == topology.num_blocks
        assert len(transitions) == (0 if topology.channels is None else len(topology.sizes) - 1)
        self.module = module
        self.topology = topology
        self.input_shape, self.num_classes = input_shape, num_classes
        # in plain containers: registered a second time they would double the state dict
        self._parts = {
            STEM: stem,
            **{PartName.block(number): block for number, block in enumerate(blocks, 1)},
            **{PartName.transition(number): between for number, between in enumerate(transitions, 1)},
            HEAD: head,
        }
        self._compiled: dict[PartName, nn.Module] = {}
        self.axes_by_kind: dict[PartKind, Axes] = dict(axes or {})
        self._branch_ends = (branch_ends or {},)

    @property
    def stem(self) -> nn.Module:
        """What runs before the first block."""
        return self._parts[STEM]

    @property
    def head(self) -> nn.Module:
        """What runs after the last block."""
        return self._parts[HEAD]

    def block(self, number: int) -> nn.Module:
        """Block `number`, counted from 1."""
        return self._parts[PartName.block(number)]

    @property
    def branch_ends(self) -> dict[int, nn.Module]:
        """Block -> last module of its residual branch; only blocks whose branch can be scaled."""
        return self._branch_ends[0]

    def axes(self, part: PartName) -> Axes:
        """Which axes of a part's tensors follow its channels; empty where blocks don't concatenate."""
        return self.axes_by_kind.get(part.kind, {})

    def with_head(self, head: nn.Module) -> "StagedNet":
        """The same network with another head; all modules are shared, the state dict stays the same.

        Args:
            head: Should have the old head's parameters under the old names, and none besides.
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
            transitions=[part for name, part in self._parts.items() if name.kind == "transition"],
            axes=self.axes_by_kind,
        )

    def route(self, spec: Spec) -> list[Part]:
        """What runs for a spec, in order. Two specs share a prefix as far as their part names agree.

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
        """Logits `[B, num_classes]` of the sub-network `spec` (the main network when None) for `images` `[B, C, H, W]`.

        Raises:
            SpecError: The network has no such sub-network.
        """
        out = images
        for part in self.route(self.topology.full if spec is None else spec):
            out = part.module(out)
        return out

    def replace(self, change: Callable[[nn.Module], nn.Module | None]) -> None:
        """Puts other modules into the places of some, everywhere that they stand.

        Args:
            change: Gives the module that takes the place of the one it is given, None to leave that one.
        """
        found: dict[nn.Module, nn.Module] = {}
        holders = {holder: None for part in (self.module, *self._parts.values()) for holder in part.modules()}
        for holder in holders:
            for name, child in holder.named_children():
                if child not in found and (other := change(child)) is not None:
                    found[child] = other
                if child in found:
                    setattr(holder, name, found[child])
        self._parts = {name: found.get(part, part) for name, part in self._parts.items()}
        self._branch_ends = ({block: found.get(end, end) for block, end in self.branch_ends.items()},)

    def compile_blocks(self, compiler: Callable[[nn.Module], nn.Module]) -> None:
        """Runs every whole part through what `compiler` (`torch.compile`) makes of it; parameters stay shared.

        Narrowed parts run as they are: every width would be compiled anew.
        """
        self._compiled = {name: compiler(part) for name, part in self._parts.items()}


def prefix_length(a: Sequence[Part], b: Sequence[Part]) -> int:
    """Number of leading parts that two routes share."""
    length = 0
    for one, other in zip(a, b, strict=False):
        if one.name != other.name:
            break
        length += 1
    return length


def classifier(net: StagedNet) -> nn.Linear:
    """The last linear layer of the head: where label smoothing, normalised logits and exports look.

    Raises:
        TypeError: The head ends with something else.
    """
    linears = [m for m in net.head.modules() if isinstance(m, nn.Linear)]
    if not linears:
        raise TypeError(f"the head of {net.topology.network} has no linear layer")
    return linears[-1]
