"""A sub-network as a network of its own: what a twin is trained as."""

import copy

from torch import nn

from stimcore.errors import UsageError
from stimcore.nets.narrowed import Narrowed
from stimcore.nets.staged import StagedNet
from stimcore.subnets.part_name import HEAD, STEM, PartName
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology


def cut(net: StagedNet, spec: Spec) -> StagedNet:
    """A network that has only the blocks of `spec`, with copies of their weights, numbered anew from 1.

    Parameter names are those of the parts: `stem.`, `block3.`, `head.`, with the block numbers of the original network.
    Narrowed parts become modules of their own width.

    Raises:
        UsageError: A stage would have no block, or blocks were permuted.
    """
    topology = net.topology
    topology.check(spec)
    if not all(spec.stages) or topology.kind(spec) not in ("main", "ordered", "delete"):
        raise UsageError(f"{spec} can't be cut out of {topology.network}", allowed="blocks in their own order, no empty stage")
    own = {block: number for number, block in enumerate(spec.blocks, 1)}
    fixed = {own[block]: why for block, why in topology.fixed.items() if block in own}
    modules = {part.name.whole: _apart(part.module) for part in net.route(spec)}
    parts = nn.ModuleDict({str(name): module for name, module in modules.items()})
    return StagedNet(
        parts,
        Topology.of(
            f"{topology.network}:{topology.short(spec)}",
            [len(stage) for stage in spec.stages],
            fixed,
            ordered_only=topology.ordered_only,
            channels=topology.channels,
        ),
        stem=modules[STEM],
        blocks=[module for name, module in modules.items() if name.kind == "block"],
        transitions=[module for name, module in modules.items() if name.kind == "transition"],
        head=modules[HEAD],
        axes=net.axes_by_kind,
        input_shape=net.input_shape,
        num_classes=net.num_classes,
        branch_ends={
            own[block]: modules[PartName.block(block)].get_submodule(name)
            for block, end in net.branch_ends.items()
            if block in own
            for name, module in net.block(block).named_modules()
            if module is end
        },
    )


def _apart(module: nn.Module) -> nn.Module:
    return module.apart() if isinstance(module, Narrowed) else copy.deepcopy(module)
