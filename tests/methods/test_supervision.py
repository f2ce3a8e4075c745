"""Layer and stage supervision: coefficients, and the loss put together by hand."""

import pytest
import torch
from torch.nn import functional as F

from stimcore.methods.base import Method
from stimcore.methods.layer_supervision import LayerSupervision, layer_coefficients
from stimcore.methods.stage_supervision import StageSupervision
from stimcore.train.seeds import layers_seeded
from tests.methods.conftest import BatchFor, Fresh, gradient


def test_layer_coefficients_are_the_stages_over_their_layers() -> None:
    # MobileNetV3's four resolutions
    expected = [0.13 / 2] * 2 + [0.2 / 3] * 3 + [0.27 / 6] * 6 + [0.4 / 3] * 3
    assert layer_coefficients([2, 3, 6, 3]) == pytest.approx(expected)
    assert sum(layer_coefficients([3, 3, 3])) == pytest.approx(1)


@pytest.mark.parametrize("method", [StageSupervision(), LayerSupervision()])
def test_heads_with_weights_of_zero_add_the_log_of_the_classes(
    method: Method, family: str, fresh: Fresh, batch_for: BatchFor
) -> None:
    net = fresh(family)
    with layers_seeded(0):
        heads = method.make_auxiliary(net)
    assert heads is not None
    for parameter in heads.parameters():
        parameter.data.zero_()
    losses = method.step(net, heads, batch_for(net))
    extra = losses["loss"] - losses["main_ce"]
    assert extra.item() == pytest.approx(torch.log(torch.tensor(10.0)).item(), abs=1e-5)


def test_stage_supervision_by_hand(fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh("resnet20")
    batch = batch_for(net)
    method = StageSupervision()
    with layers_seeded(0):
        heads = method.make_auxiliary(net)
        for module in net.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    out = net.stem(batch.images)
    expected, curve = 0.0, {3: 0.13 / 0.765, 6: 0.235 / 0.765, 9: 0.4 / 0.765}
    for block in range(1, 10):
        out = net.block(block)(out)
        if block in curve:
            expected += curve[block] * F.cross_entropy(heads.heads[str(block)](out.mean((2, 3))), batch.labels).item()
    main = F.cross_entropy(net.head(out), batch.labels).item()
    losses = method.step(net, heads, batch)
    assert losses["main_ce"].item() == pytest.approx(main, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(main + expected, rel=1e-5)


def test_a_head_sends_a_gradient_to_the_first_block(fresh: Fresh, batch_for: BatchFor) -> None:
    """The network's head has weights of zero, so that no gradient of the main cross entropy reaches the blocks."""
    net = fresh("resnet20")
    method = StageSupervision()
    with layers_seeded(0):
        heads = method.make_auxiliary(net)
    for parameter in net.head.parameters():
        parameter.data.zero_()
    method.step(net, heads, batch_for(net))
    assert gradient(net.block(1).get_parameter("conv1.weight")).abs().max() > 0
