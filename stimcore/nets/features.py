"""What leaves a block, whatever its layout: maps `[B, C, H, W]` or `[B, H, W, C]`, sequences of tokens `[B, N, D]`, vectors."""

from torch import Tensor


def as_maps(features: Tensor, *, channels_last: bool = False) -> Tensor:
    """Return features as maps `[B, C, H, W]`; a view, so that gradients pass.

    A sequence of N tokens becomes a map of N rows and one column: a network need not say which of its tokens are a grid of
    patches. Its mean over rows and columns is the mean of the tokens, a class token included.

    Args:
        features: `[B, C, H, W]` or `[B, H, W, C]`, `[B, N, D]` or `[B, D]`.
        channels_last: Whether features with four axes are `[B, H, W, C]`.

    Example:
        >>> import torch
        >>> [tuple(as_maps(torch.zeros(shape)).shape) for shape in ((2, 8, 4, 4), (2, 5, 8), (2, 8))]
        [(2, 8, 4, 4), (2, 8, 5, 1), (2, 8, 1, 1)]
        >>> tuple(as_maps(torch.zeros(2, 4, 3, 8), channels_last=True).shape)
        (2, 8, 4, 3)
    """
    if features.ndim == 4:
        return features.permute(0, 3, 1, 2) if channels_last else features
    if features.ndim == 3:
        return features.transpose(1, 2).unsqueeze(-1)
    return features.reshape(*features.shape, 1, 1)
