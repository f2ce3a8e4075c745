"""A network as `stem -> stage 1 .. stage S -> head`, whose sub-networks are chosen by an argument.

`StagedNet` wraps any module and knows which of its sub-modules are stem, blocks and head. The wrapped module keeps its own
parameter names, so that its checkpoints load key for key. Knows nothing of training or of ONNX.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from stimcore.topology import Spec, Topology


@dataclass(frozen=True)
class Part:
    """One step of a route through a network.

    Attributes:
        name: `stem`, `block4`, `transition1`, `head`; with what it was narrowed to behind an `@`. Equal names compute the same.
        module: Maps one tensor to one tensor.
    """

    name: str
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
    ) -> None:
        super().__init__()
        assert len(blocks) == topology.num_blocks
        self.module = module
        self.topology = topology
        self.input_shape, self.num_classes = input_shape, num_classes
        # in plain containers: registered a second time they would double the state dict
        self._ends = {"stem": (stem,), "head": (head,)}
        self._blocks = (tuple(blocks),)
        self._branch_ends = (branch_ends or {},)

    @property
    def stem(self) -> nn.Module:
        """What runs before the first block."""
        return self._ends["stem"][0]

    @property
    def head(self) -> nn.Module:
        """What runs after the last block."""
        return self._ends["head"][0]

    def block(self, number: int) -> nn.Module:
        """Block `number`, counted from 1."""
        return self._blocks[0][number - 1]

    @property
    def branch_ends(self) -> dict[int, nn.Module]:
        """Block -> last module of its residual branch; only blocks whose branch can be scaled."""
        return self._branch_ends[0]

    def route(self, spec: Spec) -> list[Part]:
        """What runs for a spec, in order. Two specs share a prefix as far as their part names agree."""
        return [
            Part("stem", self.stem),
            *(Part(f"block{number}", self.block(number)) for number in spec.blocks),
            Part("head", self.head),
        ]

    def forward(self, images: Tensor, spec: Spec | None = None) -> Tensor:
        """Logits `[B, num_classes]` of the sub-network `spec` (the main network when None) for `images` `[B, C, H, W]`."""
        out = images
        for part in self.route(self.topology.full if spec is None else spec):
            out = part.module(out)
        return out

    def compile_blocks(self, compiler: Callable[[nn.Module], nn.Module]) -> None:
        """Replaces stem, every block and head by what `compiler` (`torch.compile`) makes of them; parameters stay shared."""
        self._ends = {name: (compiler(part),) for name, (part,) in self._ends.items()}
        self._blocks = (tuple(compiler(block) for block in self._blocks[0]),)


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
    return cast(nn.Linear, linears[-1])
