"""CIFAR ResNets of any depth and width: blocks, names, counts, and what is refused."""

import pytest

from stimcore.errors import UsageError
from stimcore.nets.catalogue import build, native_shape


def weights(name: str) -> int:
    net = build(name, input_shape=(3, 32, 32), num_classes=10)
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(("name", "size"), [("resnet8", 1), ("resnet14", 2), ("resnet26", 4), ("resnet20-w2", 3)])
def test_every_depth_of_6n_and_2_from_8_on(name: str, size: int) -> None:
    net = build(name, input_shape=(3, 32, 32), num_classes=10)
    assert net.topology.network == name
    assert net.topology.sizes == (size, size, size)
    assert set(net.topology.fixed) == {size + 1, 2 * size + 1}
    assert native_shape(name) == ((3, 32, 32), 10)


def test_parameters_are_those_of_the_definition() -> None:
    """Convolutions 3x3 with two numbers per channel of a batch norm behind each, and a linear layer."""

    def counted(size: int, width: int) -> int:
        channels = [16 * width, 32 * width, 64 * width]
        total, before = 9 * 3 * channels[0] + 2 * channels[0], channels[0]
        for wide in channels:
            total += 9 * before * wide + 9 * wide * wide * (2 * size - 1) + 2 * wide * 2 * size
            before = wide
        return total + 10 * before + 10

    assert weights("resnet20") == counted(3, 1) == 269_722
    assert weights("resnet8") == counted(1, 1)
    assert weights("resnet20-w2") == counted(3, 2)


@pytest.mark.parametrize("name", ["resnet2", "resnet9", "resnet21", "resnet020", "resnet20-w0", "resnet20-w1.5", "resnet50-w2"])
def test_others_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"there is no network '{name}'; allowed: .*resnet14 for any 6n"):
        build(name, input_shape=(3, 32, 32), num_classes=10)


def test_the_depths_that_two_families_have_are_torchvisions() -> None:
    assert native_shape("resnet50") == native_shape("resnet152") == ((3, 224, 224), 1000)
    assert build("resnet50", input_shape=(3, 32, 32), num_classes=10).topology.sizes == (3, 4, 6, 3)
