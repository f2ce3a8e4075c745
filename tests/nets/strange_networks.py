"""Networks with layers that users have and the catalogue has not, for names such as `tests.nets.strange_networks:norms`."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from stimcore.nets.own import staged
from stimcore.nets.staged import StagedNet

WIDTH = 4


class Branch(nn.Module):
    """Adds what a layer makes of the input."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        out: Tensor = x + self.layer(x)
        return out


def of_blocks(blocks: list[nn.Module], head: nn.Module, input_shape: tuple[int, int, int]) -> StagedNet:
    """Return a network with one stage."""
    stem = nn.Conv2d(input_shape[0], WIDTH, 3, padding=1)
    module = nn.Sequential(stem, *blocks, head)
    return staged(module, stem=stem, stages=[blocks], head=head, input_shape=input_shape, name="strange")


def with_block(block: Callable[[], nn.Module]) -> Callable[..., StagedNet]:
    """Return a function that builds a network with a common block and a strange one."""

    def build(*, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, num_classes))
        common = Branch(nn.Sequential(conv(), nn.BatchNorm2d(WIDTH)))
        return of_blocks([common, block()], head, input_shape)

    return build


def conv() -> nn.Conv2d:
    """Return a convolution that keeps the shape."""
    return nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)


def norms(*, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
    """Batch norms without running statistics, without affine, one-dimensional; instance, group and layer norms."""
    blocks: list[nn.Module] = [
        Branch(nn.Sequential(conv(), nn.BatchNorm2d(WIDTH, track_running_stats=False), nn.ReLU())),
        Branch(nn.Sequential(conv(), nn.BatchNorm2d(WIDTH, affine=False), nn.ReLU())),
        Branch(nn.Sequential(conv(), nn.BatchNorm2d(WIDTH, affine=False, track_running_stats=False), nn.GELU())),
        Branch(nn.Sequential(conv(), nn.InstanceNorm2d(WIDTH), nn.ReLU(), nn.InstanceNorm2d(WIDTH, affine=True))),
        Branch(nn.Sequential(conv(), nn.GroupNorm(2, WIDTH))),
    ]
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(2),  # [B, C, L]
        nn.BatchNorm1d(WIDTH),
        nn.Flatten(),
        nn.Linear(4 * WIDTH, 6),
        nn.BatchNorm1d(6),  # [B, C]
        nn.ReLU(),
        nn.BatchNorm1d(6, affine=False, momentum=None),
        nn.LayerNorm(6),
        nn.Linear(6, num_classes),
    )
    return of_blocks(blocks, head, input_shape)


class Tokens(nn.Module):
    """Cuts images into patches, and adds a class token: a bare parameter of the stem."""

    def __init__(self, input_shape: tuple[int, int, int], width: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(input_shape[0], width, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, C, H, W]` to `[B, 1 + patches, width]`."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1)


class Attention(nn.Module):
    """Attention as timm writes it, with a mask that a comparison of sizes decides about."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, N, D]` to `[B, N, D]`."""
        batch, count, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=count > 3)
        return torch.as_tensor(self.out(out.transpose(1, 2).reshape(batch, count, width)))


class Looks(nn.Module):
    """torch's own attention over a sequence and itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, N, D]` to `[B, N, D]`."""
        out: Tensor = self.attention(x, x, x)[0]
        return out


class First(nn.Module):
    """Takes the class token."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, N, D]` to `[B, D]`."""
        return x[:, 0]


def attention(*, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
    """A small vision transformer, of three kinds of blocks."""
    width = 8
    stem = Tokens(input_shape, width)
    blocks: list[nn.Module] = [
        Branch(nn.Sequential(nn.LayerNorm(width), Attention(width, 2))),
        Branch(nn.Sequential(nn.LayerNorm(width), Looks(width))),
        nn.TransformerEncoderLayer(width, 2, 16, dropout=0.0, batch_first=True, norm_first=True),
    ]
    head = nn.Sequential(First(), nn.LayerNorm(width), nn.Linear(width, num_classes))
    module = nn.Sequential(stem, *blocks, head)
    return staged(module, stem=stem, stages=[blocks], head=head, input_shape=input_shape, name="attention")


class Twice(nn.Module):
    """Uses one batch norm in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = conv(), conv(), nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        out: Tensor = x + self.norm(self.second(self.norm(self.first(x)).relu()))
        return out


class Functional(nn.Module):
    """Normalises with a function in the place of a module."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("var", torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        mean, var = self.get_buffer("mean"), self.get_buffer("var")
        return x + functional.batch_norm(x, mean, var, training=self.training)


class Spectral(nn.Module):
    """Has an operator that ONNX has in no such form."""

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        out: Tensor = x + torch.linalg.svdvals(x).sum(-1)[..., None, None]
        return out


class Random(nn.Module):
    """Adds noise in evaluation mode too."""

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        return x + torch.rand_like(x)


class Counting(nn.Module):
    """Depends on the number of images."""

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        return x + float(len(x))


twice = with_block(Twice)
functional_norm = with_block(Functional)
tracked_instance_norm = with_block(lambda: Branch(nn.InstanceNorm2d(WIDTH, affine=True, track_running_stats=True)))
spectral = with_block(Spectral)
counting = with_block(Counting)


def random(*, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
    """The noise comes after `staged` has compared the parts with the module."""
    net = with_block(lambda: Branch(nn.Identity()))(input_shape=input_shape, num_classes=num_classes)
    net.block(2).layer = Random()
    return net


def shared(*, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
    """Two blocks share a batch norm."""
    norm = nn.BatchNorm2d(WIDTH)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, num_classes))
    return of_blocks([Branch(nn.Sequential(conv(), norm)) for _ in range(2)], head, input_shape)


def unused(*, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
    """A batch norm that no forward reaches is no obstacle."""
    net = with_block(lambda: Branch(nn.Sequential(conv(), nn.BatchNorm2d(WIDTH))))(
        input_shape=input_shape, num_classes=num_classes
    )
    net.block(2).spare = nn.BatchNorm2d(WIDTH)
    return net
