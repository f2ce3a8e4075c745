"""Where heads sit, and what their losses weigh."""

import pytest
import torch
from torchvision.models import SwinTransformer

from stimcore.methods.exits import (
    STAGE_CURVE,
    block_shapes,
    forward_with_features,
    pool,
    stage_coefficients,
    supervised_stages,
)
from stimcore.nets.adapters import adapt
from stimcore.nets.features import as_maps
from tests.methods.conftest import BatchFor, Fresh


def test_four_stages_have_the_papers_coefficients() -> None:
    assert stage_coefficients(4) == pytest.approx([0.13, 0.2, 0.27, 0.4])
    assert sum(STAGE_CURVE) == pytest.approx(1)


def test_other_counts_follow_the_curve() -> None:
    assert stage_coefficients(1) == [1.0]
    assert stage_coefficients(2) == pytest.approx([0.13 / 0.53, 0.4 / 0.53])
    assert stage_coefficients(3) == pytest.approx([0.13 / 0.765, 0.235 / 0.765, 0.4 / 0.765])  # the middle of 0.2 and 0.27
    for count in range(1, 9):
        values = stage_coefficients(count)
        assert sum(values) == pytest.approx(1)
        assert values == sorted(values)


def test_mobilenetv3_is_supervised_at_its_four_resolutions(fresh: Fresh) -> None:
    net = fresh("mobilenetv3-w0.25")
    assert supervised_stages(net, block_shapes(net)) == [(1, 2), (3, 4, 5), (6, 7, 8, 9, 10, 11), (12, 13, 14)]


def test_resnet20_at_its_three_stages(fresh: Fresh) -> None:
    net = fresh("resnet20")
    shapes = block_shapes(net)
    assert supervised_stages(net, shapes) == [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
    assert [shapes[block] for block in (3, 6, 9)] == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


def test_the_forward_is_the_networks_own(family: str, fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh(family).eval()
    images = batch_for(net).images
    with torch.no_grad():
        features, logits = forward_with_features(net, images, [1])
        assert torch.equal(logits, net(images))
        assert torch.equal(features[1], as_maps(net.block(1)(net.stem(images))))


def test_tokens_are_maps_of_one_column_and_stages_of_one_resolution_stay(fresh: Fresh, batch_for: BatchFor) -> None:
    net = fresh("vit-1-2-d8")
    shapes = block_shapes(net)
    assert shapes == dict.fromkeys((1, 2, 3), (8, 17, 1))  # a class token and 4 x 4 patches
    assert supervised_stages(net, shapes) == [(1,), (2, 3)]
    tokens = net.block(1)(net.stem(batch_for(net).images))
    assert torch.allclose(pool(as_maps(tokens)), tokens.mean(1), atol=1e-6)


def test_maps_with_channels_last_are_turned() -> None:
    module = SwinTransformer([2, 2], 8, [1, 1], [1, 1], [2, 2], num_classes=3)
    net = adapt(module, name="swin", input_shape=(3, 8, 8), num_classes=3)
    assert block_shapes(net) == {1: (8, 4, 4), 2: (16, 2, 2), 3: (16, 2, 2)}
