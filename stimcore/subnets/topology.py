"""The stages of a network and the rules for its sub-networks: which specs it has, and how specs are read and printed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any, Self

from stimcore.errors import SpecError
from stimcore.subnets.channels import Channels, KeptChannels
from stimcore.subnets.part_name import HEAD, STEM, PartName, Route
from stimcore.subnets.spec import MAX_SPEC_CHARS, Spec

_BLOCK = re.compile(r"x?[1-9][0-9]{0,4}\Z", re.ASCII)
_DEPTHS = re.compile(r"d[1-9][0-9]{0,4}(-[1-9][0-9]{0,4})*\Z", re.ASCII)
_MAX_EXAMPLE_CHARS = 80


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Stages of blocks, and which blocks may go.

    Attributes:
        network: Name of the network in the catalogue, or any name of the user's own.
        stages: Per stage its block numbers, counted from 1 through the whole network.
        fixed: Block -> why it can be neither deleted nor moved. Blocks that are absent are removable.
        ordered_only: True where blocks concatenate (DenseNet): only ordered sub-networks exist.
        channels: Where blocks concatenate: how many channels there are where.
    """

    network: str
    stages: tuple[tuple[int, ...], ...]
    fixed: Mapping[int, str] = field(default_factory=dict)
    ordered_only: bool = False
    channels: Channels | None = None

    def __post_init__(self) -> None:
        numbers = [block for stage in self.stages for block in stage]
        if numbers != list(range(1, len(numbers) + 1)) or not all(self.stages):
            raise SpecError(
                f"the stages of {self.network} are {self.stages}", allowed="blocks counted from 1, no stage without blocks"
            )
        if unknown := sorted(set(self.fixed) - set(numbers)):
            raise SpecError(f"{self.network} has no blocks {unknown}", allowed=f"1 to {len(numbers)}")
        if self.channels is not None and not self.ordered_only:
            raise SpecError(f"{self.network} concatenates channels", allowed="ordered sub-networks only (ordered_only)")

    @classmethod
    def of(
        cls,
        network: str,
        sizes: Sequence[int],
        fixed: Mapping[int, str] | None = None,
        *,
        ordered_only: bool = False,
        channels: Channels | None = None,
    ) -> Self:
        """The topology whose stages have `sizes` blocks."""
        ends = list(accumulate(sizes, initial=0))
        stages = tuple(tuple(range(a + 1, b + 1)) for a, b in zip(ends[:-1], ends[1:], strict=True))
        return cls(network=network, stages=stages, fixed=dict(fixed or {}), ordered_only=ordered_only, channels=channels)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Blocks per stage."""
        return tuple(map(len, self.stages))

    @cached_property
    def num_blocks(self) -> int:
        """Blocks in all."""
        return sum(self.sizes)

    @cached_property
    def removable(self) -> tuple[int, ...]:
        """Blocks that may be deleted, and moved within their stage."""
        if self.ordered_only:
            return ()
        return tuple(block for stage in self.stages for block in stage if block not in self.fixed)

    @cached_property
    def full(self) -> Spec:
        """The main network: every block, in its own order."""
        return Spec(self.stages)

    @cached_property
    def _stage_of(self) -> dict[int, int]:
        return {block: s for s, stage in enumerate(self.stages) for block in stage}

    def stage_of(self, block: int) -> int:
        """Index (from 0) of the stage that holds `block`."""
        return self._stage_of[block]

    def ordered(self, depths: Sequence[int]) -> Spec:
        """The ordered sub-network with the first `depths[s]` blocks of every stage.

        Raises:
            SpecError: A wrong number of depths, or one outside 1 .. the stage's size.
        """
        if len(depths) != len(self.sizes) or any(not 1 <= d <= n for d, n in zip(depths, self.sizes, strict=False)):
            raise SpecError(
                f"d{'-'.join(map(str, depths))} is no ordered sub-network of {self.network}",
                allowed=f"{len(self.sizes)} depths, each from 1 up to {'-'.join(map(str, self.sizes))}",
            )
        return Spec(tuple(stage[:depth] for stage, depth in zip(self.stages, depths, strict=True)))

    def depths(self, spec: Spec) -> tuple[int, ...] | None:
        """The depths of an ordered sub-network, None for any other spec."""
        if len(spec.stages) != len(self.stages) or not all(spec.stages):
            return None
        if any(kept != stage[: len(kept)] for kept, stage in zip(spec.stages, self.stages, strict=True)):
            return None
        return tuple(map(len, spec.stages))

    def route(self, spec: Spec) -> Route:
        """Names of the parts that run for a spec, in order; what has the same name computes the same.

        `stem`, `block4`, `head`; where blocks concatenate also `transition1`, and with what a part was narrowed to behind an
        `@`: see `Channels.route`. Two specs share a prefix as far as these names agree.

        Raises:
            SpecError: The network has no such sub-network.
        """
        self.check(spec)
        if self.channels is None:
            return (STEM, *map(PartName.block, spec.blocks), HEAD)
        return self.channels.route(self.sizes, tuple(map(len, spec.stages)))

    def kept(self, part: PartName) -> KeptChannels | None:
        """Which channels a part of a route keeps; None for one that is whole."""
        return None if self.channels is None else self.channels.kept(self.sizes, part)

    def short(self, spec: Spec) -> str:
        """`d2-3-4` for an ordered sub-network, the long form for any other."""
        depths = self.depths(spec)
        return str(spec) if depths is None else "d" + "-".join(map(str, depths))

    def parse(self, text: str) -> Spec:
        """Reads either form of a spec and checks it against this network.

        Args:
            text: `1-2.3-x4-5`, `1-2.3-5` (the same), `d2-3`, or `main` for the full network.

        Raises:
            SpecError: Says which part is wrong, and why.
        """
        text = text.strip()
        if len(text) > MAX_SPEC_CHARS:
            raise SpecError(f"a spec of {len(text):,} characters", allowed=f"at most {MAX_SPEC_CHARS:,}")
        if text in ("main", "full"):
            return self.full
        if _DEPTHS.match(text):
            return self.ordered([int(d) for d in text[1:].split("-")])
        stages = []
        for number, part in enumerate(text.split("."), 1):
            tokens = [] if part == "x" else part.split("-")
            for token in tokens:
                if not _BLOCK.match(token):
                    raise SpecError(
                        f"'{token[:40]}' in stage {number} is no block",
                        allowed=f"numbers such as 4, or x4 for a deleted block, as in {self._example()}",
                    )
            stages.append(tuple(int(token) for token in tokens if not token.startswith("x")))
            for token in tokens:
                if token.startswith("x") and int(token[1:]) in stages[-1]:
                    raise SpecError(f"block {token[1:]} is both deleted and running in stage {number}")
        spec = Spec(tuple(stages))
        self.check(spec)
        return spec

    def _example(self) -> str:
        text = str(self.full)
        return text if len(text) <= 80 else text[:77] + "..."

    def check(self, spec: Spec) -> None:
        """Accepts every sub-network that can run.

        Raises:
            SpecError: With the reason: a block twice, in another stage, missing without a skip path, or moved.
        """
        if len(spec.stages) != len(self.stages):
            raise SpecError(
                f"{len(spec.stages)} stages were given",
                allowed=f"{len(self.stages)} for {self.network}, as in {self._example()}",
            )
        seen: set[int] = set()
        for s, (kept, stage) in enumerate(zip(spec.stages, self.stages, strict=True), 1):
            for block in kept:
                if block not in self._stage_of:
                    raise SpecError(f"{self.network} has no block {block}", allowed=f"1 to {self.num_blocks}")
                if block not in stage:
                    raise SpecError(f"block {block} belongs to stage {self.stage_of(block) + 1}, not to stage {s}")
                if block in seen:
                    raise SpecError(f"block {block} runs twice", allowed="every block at most once")
                seen.add(block)
        if self.ordered_only:
            if self.depths(spec) is None:
                raise SpecError(
                    f"{spec} is not an ordered sub-network of {self.network}",
                    allowed="the first blocks of every stage, at least one: layers concatenate, so none can move or be missing",
                )
            return
        if self.depths(spec) is not None:
            return
        for s, (kept, stage) in enumerate(zip(spec.stages, self.stages, strict=True), 1):
            for position, block in enumerate(stage):
                if block not in self.fixed:
                    continue
                if block not in kept:
                    if kept and kept == stage[: len(kept)]:
                        continue  # the tail of an ordered stage
                    raise SpecError(f"block {block} can't be deleted: {self.fixed[block]}")
                before = [b for b in kept[: kept.index(block)] if b in stage[position + 1 :]]
                after = [b for b in kept[kept.index(block) + 1 :] if b in stage[:position]]
                if before or after:
                    raise SpecError(f"block {block} in stage {s} can't be moved: {self.fixed[block]}")

    def kind(self, spec: Spec) -> str:
        """`main`, `ordered`, `delete`, `permute`, or `delete+permute`: the narrowest family that holds the spec."""
        if spec == self.full:
            return "main"
        if self.depths(spec) is not None:
            return "ordered"
        moved = any(list(kept) != sorted(kept) for kept in spec.stages)
        missing = len(spec.blocks) < self.num_blocks
        return {(True, True): "delete+permute", (True, False): "permute"}.get((moved, missing), "delete")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` reads it back."""
        value = {
            "network": self.network,
            "stages": [list(stage) for stage in self.stages],
            "fixed": {str(block): why for block, why in sorted(self.fixed.items())},
            "ordered_only": self.ordered_only,
        }
        return value if self.channels is None else value | {"channels": asdict(self.channels)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            SpecError: A key is missing or unknown.
        """
        keys = {"network", "stages", "fixed", "ordered_only"}
        if set(value) - {"channels"} != keys:
            raise SpecError(
                f"a topology with the keys {sorted(value)}",
                allowed=", ".join(sorted(keys)) + "; channels where blocks concatenate",
            )
        return cls(
            network=str(value["network"]),
            stages=tuple(tuple(int(b) for b in stage) for stage in value["stages"]),
            fixed={int(block): str(why) for block, why in value["fixed"].items()},
            ordered_only=bool(value["ordered_only"]),
            channels=Channels(**value["channels"]) if "channels" in value else None,
        )
