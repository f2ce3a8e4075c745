"""Cut a sub-network out of a network: what a twin is trained as."""

import copy

from torch import nn

from stimcore.errors import UsageError
from stimcore.nets.narrowed import Narrowed
from stimcore.nets.staged import StagedNet
from stimcore.subnets.part_name import HEAD, STEM, PartName
from stimcore.subnets.spec import Spec
from stimcore.subnets.topology import Topology


def cut(net: StagedNet, spec: Spec) -> StagedNet:
    """Return a network that has only the blocks of `spec`, with copies of their weights, renumbered from 1.

    Parameter names begin with the names of the parts, `stem.`, `block3.`, `head.`, in which blocks keep the numbers of the
    original network: they show where each weight comes from. Narrowed parts become modules of their reduced width.

    Args:
        net: The network; left as it is.
        spec: The blocks to keep.

    Raises:
        SpecError: The network has no such sub-network.
        UsageError: A stage would have no block, or blocks were permuted.

    Example:
        >>> from stimcore.nets.catalogue import build
        >>> net = build("resnet20", input_shape=(3, 32, 32), num_classes=10)
        >>> twin = cut(net, net.topology.parse("d1-2-1"))
        >>> twin.topology.network, twin.topology.stages
        ('resnet20:d1-2-1', ((1,), (2, 3), (4,)))
        >>> list(dict.fromkeys(key.split(".")[1] for key in twin.state_dict()))
        ['stem', 'block1', 'block4', 'block5', 'block7', 'head']
    """
    topology = net.topology
    topology.check(spec)
    if not all(spec.stages) or topology.kind(spec) not in ("main", "ordered", "delete"):
        raise UsageError(f"{spec} can't be cut out of {topology.network}", allowed="blocks in ascending order, no empty stage")
    new_number = {block: number for number, block in enumerate(spec.blocks, 1)}
    fixed = {new_number[block]: why for block, why in topology.fixed.items() if block in new_number}
    modules = {part.name.whole: copy_of(part.module) for part in net.route(spec)}
    return StagedNet(
        nn.ModuleDict({str(name): module for name, module in modules.items()}),
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
        channels_last=net.channels_last,
        # the copies are other objects than the originals: look each branch end up by its name within its block
        branch_ends={
            new_number[block]: modules[PartName.block(block)].get_submodule(name)
            for block, end in net.branch_ends.items()
            if block in new_number
            for name, module in net.block(block).named_modules()
            if module is end
        },
    )


def copy_of(module: nn.Module) -> nn.Module:
    """Return a copy of a part with weights of its own; a narrowed part becomes an ordinary module of its reduced width."""
    return module.to_module() if isinstance(module, Narrowed) else copy.deepcopy(module)
