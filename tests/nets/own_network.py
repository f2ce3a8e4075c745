"""Networks as a user writes them, for names such as `tests.nets.own_network:residual`."""

from torch import Tensor, nn

from stimcore.nets.own import staged
from stimcore.nets.staged import StagedNet


class Block(nn.Module):
    """A residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        out: Tensor = x + self.norm(self.conv(x)).relu()
        return out


def plain(*, input_shape: tuple[int, int, int], num_classes: int) -> nn.Sequential:
    """Return a module that is not in stages yet: refused by the catalogue."""
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(4, num_classes))
    return nn.Sequential(nn.Conv2d(input_shape[0], 4, 3, padding=1), Block(), Block(), Block(), head)


def residual(*, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
    """Return three blocks in two stages."""
    net = plain(input_shape=input_shape, num_classes=num_classes)
    return staged(net, stem=net[0], stages=[[net[1]], [net[2], net[3]]], head=net[4], input_shape=input_shape, name="residual")


def of_ten_classes(*, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
    """Return the same with ten logits, whatever is asked for."""
    return residual(input_shape=input_shape, num_classes=10)


def of_large_images(*, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
    """Return the same in stages for images of 32 pixels."""
    return residual(input_shape=(input_shape[0], 32, 32), num_classes=num_classes)


class TwoInTraining(nn.Module):
    """A head that returns the logits of an auxiliary head as well while it trains."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.last = nn.Linear(4, num_classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Average the positions."""
        logits = self.last(x.mean((2, 3)))
        return (logits, logits) if self.training else logits


def with_two_heads(*, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
    """Return three blocks with such a head."""
    net = nn.Sequential(nn.Conv2d(input_shape[0], 4, 3, padding=1), Block(), Block(), Block(), TwoInTraining(num_classes))
    return staged(net.eval(), stem=net[0], stages=[list(net[1:4])], head=net[4], input_shape=input_shape)


class Counting(nn.Conv2d):
    """A stem that counts its forwards outside of its tensors."""

    def get_extra_state(self) -> dict[str, int]:
        """Return what a checkpoint of torch would hold."""
        return {"forwards": 0}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Take it back."""


def with_extra_state(*, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
    """Return three blocks behind such a stem."""
    net = nn.Sequential(
        Counting(input_shape[0], 4, 3, padding=1), *list(plain(input_shape=input_shape, num_classes=num_classes))[1:]
    )
    return staged(net, stem=net[0], stages=[list(net[1:4])], head=net[4], input_shape=input_shape)


def over_one_position(*, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
    """Return blocks whose batch norms see one position of each image."""
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(input_shape[0], 4, 3, padding=1), nn.AdaptiveAvgPool2d(1)),
        Block(),
        Block(),
        nn.Sequential(nn.Flatten(1), nn.Linear(4, num_classes)),
    )
    return staged(net, stem=net[0], stages=[list(net[1:3])], head=net[3], input_shape=input_shape)


def of_classes_alone(num_classes: int = 2) -> nn.Module:
    """Something that does not take the shape of the images."""
    return nn.Linear(2, num_classes)
