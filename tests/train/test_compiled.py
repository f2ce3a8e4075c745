"""Every part is compiled, however many shapes the parts of a network have."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx, nn

from stimcore.nets.densenet import densenet
from stimcore.train.compiled import compile_parts
from tests.train.conftest import MakeTrainer

PYTORCHS_LIMIT = 8
Backend = Callable[[fx.GraphModule, list[Any]], Callable[..., Any]]


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Nothing is compiled yet, and whatever goes on uncompiled because of PyTorch's limit fails."""
    torch.compiler.reset()
    with torch.compiler.config.patch(  # type: ignore[attr-defined]  # added to the module when it is imported
        recompile_limit=PYTORCHS_LIMIT, accumulated_recompile_limit=256, fail_on_recompile_limit_hit=True
    ):
        yield
    torch.compiler.reset()


def counting(compiled: list[fx.GraphModule]) -> Backend:
    """A compiler that only keeps what it was given."""

    def keep(graph: fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        compiled.append(graph)
        return graph.forward

    return keep


def test_stimulative_training_compiles_every_part_with_both_kinds_of_statistics(
    fresh_compiler: None, trainer_for: MakeTrainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiled: list[fx.GraphModule] = []
    compile_with = torch.compile

    def compile_counted(part: nn.Module, **options: Any) -> Any:
        return compile_with(part, **(options | {"backend": counting(compiled)}))

    monkeypatch.setattr(torch, "compile", compile_counted)
    next(trainer_for("stimulative", compile_blocks=True).run(tmp_path))
    assert len(compiled) > PYTORCHS_LIMIT


@pytest.mark.parametrize(("smallest_side", "dynamic"), [(1.0, False), (0.5, None)])
def test_sizes_are_fixed_unless_sides_are_drawn(
    smallest_side: float, dynamic: bool | None, trainer_for: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a program for each of many sides, training would mostly compile."""
    asked: list[Any] = []

    def compile_nothing(part: nn.Module, **options: Any) -> nn.Module:
        asked.append(options["dynamic"])
        return part

    monkeypatch.setattr(torch, "compile", compile_nothing)
    trainer_for("stimulative", options={"smallest_side": smallest_side}, compile_blocks=True)
    assert set(asked) == {dynamic}


@pytest.mark.slow
def test_a_network_whose_parts_all_differ_is_compiled_whole(fresh_compiler: None) -> None:
    net = densenet((4, 4, 4), 6, input_shape=(3, 32, 32), num_classes=5)
    compiled: list[fx.GraphModule] = []
    compile_parts(net, backend=counting(compiled))
    net(torch.zeros(2, 3, 32, 32), net.topology.full)
    assert len(compiled) == len(net.route(net.topology.full)) == 16
