"""torchvision's and timm's networks as stages of blocks, by their names: `torchvision:NAME`, `timm:NAME`.

An adapter per family names what runs before the blocks, the blocks, and what runs after them. Everything else is found by
running: `stimcore.nets.own.staged` checks that the parts compute what the network computes, a stage begins wherever a block
changes the shape, and a block is removable if its shortcut is the identity.
"""

from stimcore.nets.adapters.adapt import NAME, adapt, build_named
from stimcore.nets.adapters.parts import MOST_STAGES, Parts, stages_by_shape
from stimcore.nets.adapters.timm import TIMM, Step
from stimcore.nets.adapters.torchvision import TORCHVISION, FirstToken, Tokens, vision_transformer

__all__ = [
    "MOST_STAGES",
    "NAME",
    "TIMM",
    "TORCHVISION",
    "FirstToken",
    "Parts",
    "Step",
    "Tokens",
    "adapt",
    "build_named",
    "stages_by_shape",
    "vision_transformer",
]
