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
    """The stages of a network and which of its blocks are removable.

    Attributes:
        network: Name of the network: that of the catalogue, or a name that you chose for yours.
        stages: For each stage its block numbers, counted from 1 through the whole network.
        fixed: Block -> why it can be neither deleted nor moved. Blocks that are absent are removable.
        ordered_only: Whether blocks concatenate (DenseNet), so that only ordered sub-networks exist.
        channels: Channel arithmetic where blocks concatenate, None elsewhere.

    Raises:
        SpecError: Blocks are not counted from 1, a stage has no block, or the other attributes contradict the stages.

    Example:
        >>> net = Topology.of("resnet20", (3, 3, 3), {4: "it changes the resolution", 7: "it changes the resolution"})
        >>> net.stages, net.removable
        (((1, 2, 3), (4, 5, 6), (7, 8, 9)), (1, 2, 3, 5, 6, 8, 9))
        >>> spec = net.parse("d1-2-3")
        >>> str(spec), net.kind(spec), net.depths(spec)
        ('1.4-5.7-8-9', 'ordered', (1, 2, 3))
        >>> net.check(Spec(((1, 2, 3), (5, 6), (7, 8, 9))))
        Traceback (most recent call last):
        stimcore.errors.SpecError: block 4 can't be deleted: it changes the resolution.
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
        """Return the topology whose stages have `sizes` blocks.

        Args:
            network: Name of the network.
            sizes: Blocks per stage.
            fixed: Block -> why it can be neither deleted nor moved.
            ordered_only: Whether blocks concatenate.
            channels: Channel arithmetic where blocks concatenate.

        Raises:
            SpecError: As the class.

        Example:
            >>> Topology.of("mine", (2, 1)).stages
            ((1, 2), (3,))
        """
        ends = list(accumulate(sizes, initial=0))
        stages = tuple(tuple(range(a + 1, b + 1)) for a, b in zip(ends[:-1], ends[1:], strict=True))
        return cls(network=network, stages=stages, fixed=dict(fixed or {}), ordered_only=ordered_only, channels=channels)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of blocks per stage."""
        return tuple(map(len, self.stages))

    @cached_property
    def num_blocks(self) -> int:
        """Number of blocks of the whole network."""
        return sum(self.sizes)

    @cached_property
    def removable(self) -> tuple[int, ...]:
        """Blocks that can be deleted, or moved within their stage."""
        if self.ordered_only:
            return ()
        return tuple(block for stage in self.stages for block in stage if block not in self.fixed)

    @cached_property
    def full(self) -> Spec:
        """The main network: every block, in ascending order."""
        return Spec(self.stages)

    @cached_property
    def _stage_of(self) -> dict[int, int]:
        return {block: s for s, stage in enumerate(self.stages) for block in stage}

    def stage_of(self, block: int) -> int:
        """Return the index, from 0, of the stage that contains `block`."""
        return self._stage_of[block]

    def ordered(self, depths: Sequence[int]) -> Spec:
        """Return the ordered sub-network that runs the first `depths[s]` blocks of every stage s.

        Raises:
            SpecError: There is not one depth per stage, or a depth is not from 1 to the size of its stage.
        """
        if len(depths) != len(self.sizes) or any(not 1 <= d <= n for d, n in zip(depths, self.sizes, strict=False)):
            raise SpecError(
                f"d{'-'.join(map(str, depths))} is no ordered sub-network of {self.network}",
                allowed=f"{len(self.sizes)} depths, each from 1 up to {'-'.join(map(str, self.sizes))}",
            )
        return Spec(tuple(stage[:depth] for stage, depth in zip(self.stages, depths, strict=True)))

    def depths(self, spec: Spec) -> tuple[int, ...] | None:
        """Return the depths of an ordered sub-network, None for any other spec."""
        if len(spec.stages) != len(self.stages) or not all(spec.stages):
            return None
        if any(kept != stage[: len(kept)] for kept, stage in zip(spec.stages, self.stages, strict=True)):
            return None
        return tuple(map(len, spec.stages))

    def route(self, spec: Spec) -> Route:
        """Return the names of the parts that run for a spec, in order; parts with equal names compute the same.

        The names are `stem`, `block4`, `head` and so on; where blocks concatenate there are also `transition1` and narrowed
        parts such as `block4@28` (see `Channels.route`). Two specs share a prefix as far as their names agree.

        Raises:
            SpecError: The network has no such sub-network.

        Example:
            >>> [str(part) for part in Topology.of("any", (2, 2)).route(Spec(((1,), (4, 3))))]
            ['stem', 'block1', 'block4', 'block3', 'head']
        """
        self.check(spec)
        if self.channels is None:
            return (STEM, *map(PartName.block, spec.blocks), HEAD)
        return self.channels.route(self.sizes, tuple(map(len, spec.stages)))

    def kept_channels(self, part: PartName) -> KeptChannels | None:
        """Return which channels a part of a route keeps; None for a whole part."""
        return None if self.channels is None else self.channels.kept_channels(self.sizes, part)

    def short(self, spec: Spec) -> str:
        """Return the depths of an ordered sub-network as text, `d2-3-4`, and the long form of any other spec."""
        depths = self.depths(spec)
        return str(spec) if depths is None else "d" + "-".join(map(str, depths))

    def parse(self, text: str) -> Spec:
        """Return the spec that a text stands for, checked against this network.

        Args:
            text: The long form, in which `x4` may mark the place of a deleted block (`1-2.3-x4-5` is `1-2.3-5`); the depths of
                an ordered sub-network (`d2-3`); or `main` for the full network.

        Raises:
            SpecError: The text is not a spec, or the network has no such sub-network. The message names the block and the
                reason.

        Example:
            >>> net = Topology.of("any", (2, 3), {1: "it changes the resolution"})
            >>> net.parse("1-2.5-4").blocks
            (1, 2, 5, 4)
            >>> net.parse("d1-2") == net.parse("1.3-4") == net.parse("1-x2.3-4-x5")
            True
            >>> net.parse("2.3-4-5")
            Traceback (most recent call last):
            stimcore.errors.SpecError: block 1 can't be deleted: it changes the resolution.
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
                        _not_a_block(part, token, number),
                        allowed=f"numbers such as 4, or x4 for a deleted block, as in {self._example()}",
                    )
            stages.append(tuple(int(token) for token in tokens if not token.startswith("x")))
            for token in tokens:
                if token.startswith("x") and int(token[1:]) in stages[-1]:
                    raise SpecError(f"block {token[1:]} is both deleted and running in stage {number}")
                if token.startswith("x") and number <= len(self.sizes) and int(token[1:]) not in self.full.stages[number - 1]:
                    raise SpecError(f"stage {number} has no block {token[1:]} to delete")
        spec = Spec(tuple(stages))
        self.check(spec)
        return spec

    def _example(self) -> str:
        """Return the full spec for an error message, shortened for deep networks."""
        text = str(self.full)
        return text if len(text) <= _MAX_EXAMPLE_CHARS else text[: _MAX_EXAMPLE_CHARS - 3] + "..."

    def check(self, spec: Spec) -> None:
        """Return if this network has the sub-network, raise otherwise.

        Every ordered sub-network runs, whatever its blocks are: skipping the tail of a stage hands the tensor that the next
        stage expects to it. In any other spec a fixed block must run, in its place.

        Raises:
            SpecError: A block runs twice or in another stage, is missing without a skip path around it, or moved although the
                tensors before and after it may have different shapes.
        """
        self._check_membership(spec)
        if self.depths(spec) is not None:
            return
        if self.ordered_only:
            raise SpecError(
                f"{spec} is not an ordered sub-network of {self.network}",
                allowed="the first blocks of every stage, at least one: layers concatenate, so none can move or be missing",
            )
        for number, (kept, stage) in enumerate(zip(spec.stages, self.stages, strict=True), 1):
            self._check_fixed(number, kept, stage)

    def _check_membership(self, spec: Spec) -> None:
        """Raise unless every block exists, runs at most once and runs in its stage."""
        if len(spec.stages) != len(self.stages):
            raise SpecError(
                "1 stage was given" if len(spec.stages) == 1 else f"{len(spec.stages)} stages were given",
                allowed=f"{len(self.stages)} for {self.network}, as in {self._example()}",
            )
        seen: set[int] = set()
        for number, (kept, stage) in enumerate(zip(spec.stages, self.stages, strict=True), 1):
            for block in kept:
                if block not in self._stage_of:
                    raise SpecError(f"{self.network} has no block {block}", allowed=f"1 to {self.num_blocks}")
                if block not in stage:
                    raise SpecError(f"block {block} belongs to stage {self.stage_of(block) + 1}, not to stage {number}")
                if block in seen:
                    raise SpecError(f"block {block} runs twice", allowed="every block at most once")
                seen.add(block)

    def _check_fixed(self, number: int, kept: tuple[int, ...], stage: tuple[int, ...]) -> None:
        """Raise if a fixed block of a stage is missing or if a block moved across it.

        Args:
            number: Number of the stage, from 1.
            kept: Its running blocks in running order.
            stage: All its blocks.
        """
        for position, block in enumerate(stage):
            if block not in self.fixed:
                continue
            if block not in kept:
                if kept and kept == stage[: len(kept)]:
                    continue  # only the tail of the stage is missing, as in an ordered sub-network
                raise SpecError(f"block {block} can't be deleted: {self.fixed[block]}")
            place = kept.index(block)
            if set(kept[:place]) & set(stage[position + 1 :]) or set(kept[place + 1 :]) & set(stage[:position]):
                raise SpecError(f"block {block} in stage {number} can't be moved: {self.fixed[block]}")

    def kind(self, spec: Spec) -> str:
        """Return the narrowest family that contains the spec: `main`, `ordered`, `delete`, `permute` or `delete+permute`."""
        if spec == self.full:
            return "main"
        if self.depths(spec) is not None:
            return "ordered"
        if all(list(kept) == sorted(kept) for kept in spec.stages):
            return "delete"
        return "permute" if len(spec.blocks) == self.num_blocks else "delete+permute"

    def to_dict(self) -> dict[str, Any]:
        """Return the topology in plain JSON types; `from_dict` is the inverse."""
        value = {
            "network": self.network,
            "stages": [list(stage) for stage in self.stages],
            "fixed": {str(block): why for block, why in sorted(self.fixed.items())},
            "ordered_only": self.ordered_only,
        }
        return value if self.channels is None else value | {"channels": asdict(self.channels)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Return the topology that `to_dict` stored; unknown keys are ignored.

        Raises:
            SpecError: A key is missing.
        """
        keys = {"network", "stages", "fixed", "ordered_only"}
        if not keys <= set(value):
            raise SpecError(
                f"a topology with the keys {sorted(value)}",
                allowed=", ".join(sorted(keys)) + "; channels where blocks concatenate",
            )
        channels = value.get("channels")
        return cls(
            network=str(value["network"]),
            stages=tuple(tuple(int(b) for b in stage) for stage in value["stages"]),
            fixed={int(block): str(why) for block, why in value["fixed"].items()},
            ordered_only=bool(value["ordered_only"]),
            channels=None if channels is None else Channels(stem=channels["stem"], growth=channels["growth"]),
        )


def _not_a_block(part: str, token: str, number: int) -> str:
    """Return why the part of a text that describes a stage is refused: it has something else than a block, or nothing."""
    if token.strip():
        return f"'{token[:40]}' in stage {number} is no block"
    return f"a block is missing in stage {number}" if part.strip() else f"stage {number} is empty"
