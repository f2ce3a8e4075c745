"""Packs images and weights losslessly, smaller than a compressed file: what a phone loads before it can compute.

`page/packing.js` unpacks both; a static host needs to know nothing, because the formats end in a plain zlib stream, which every
browser decompresses. Both rest on the same idea: bytes that are distributed alike come one after the other, and every run of
them gets a Huffman table of its own.
"""

import math
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

LEVELS = 32
"""Numbers of brightnesses that a prediction is divided into."""
CONTRASTS = (1, 10, 25, 50, 100)
"""Sums of differences between a pixel's neighbours from which the next class of contrast begins."""
AT_ONCE = 2**20
"""Pixels whose classes are computed at once: the arrays in between take some tens of bytes per pixel."""


def packed_images(pixels: NDArray[np.uint8]) -> bytes:
    """Return images as a zlib stream.

    A pixel is likely to have the value that its neighbours predict, the more so the less they differ from each other. The
    pixels are therefore sorted by what was predicted and by how much the neighbours differ, both of which whoever reads the
    images row by row knows as well. The stream holds how many pixels every class has, as `[LEVELS * 6]` little-endian
    uint32, then the pixels of the classes one after the other.

    Args:
        pixels: uint8 `[N, C, H, W]`.

    Example:
        >>> noise = np.random.default_rng(0).integers(0, 4, (20, 1, 32, 32))
        >>> images = (np.add.outer(np.arange(32), np.arange(32)) + noise).astype(np.uint8)
        >>> len(packed_images(images)) < len(zlib.compress(images.tobytes(), 9))
        True
    """
    num_classes = LEVELS * (len(CONTRASTS) + 1)
    runs: list[list[bytes]] = [[] for _ in range(num_classes)]
    step = max(1, AT_ONCE // math.prod(pixels.shape[1:]))
    for first in range(0, len(pixels), step):
        some = pixels[first : first + step]
        classes = _classes(some).ravel()
        ends = np.cumsum(np.bincount(classes, minlength=num_classes))
        ordered = some.ravel()[np.argsort(classes, kind="stable")]
        for run, piece in zip(runs, np.split(ordered, ends[:-1]), strict=True):
            run.append(piece.tobytes())
    pieces = [b"".join(run) for run in runs]
    counts = np.array([len(piece) for piece in pieces], "<u4")
    # runs of the background are the only repetitions: references to other places would cost more than they save
    return _deflated([counts.tobytes(), *pieces], zlib.Z_RLE)


def packed_weights(content: bytes) -> bytes:
    """Return a file of float32 values as a zlib stream.

    Of a trained weight, the eight bits of the exponent are predictable and the others are not, so that they come apart: all
    first bytes, all second ones and so on of values whose sign was moved behind the mantissa. What is left of a file whose size
    is no multiple of four follows as it is.

    Args:
        content: The file; of any other content it comes back all the same, only less small.

    Example:
        >>> weights = np.random.default_rng(0).normal(size=4096).astype("<f4").tobytes()
        >>> len(packed_weights(weights)) < 0.95 * len(zlib.compress(weights, 9))
        True
    """
    whole = len(content) // 4 * 4
    values = np.frombuffer(content[:whole], "<u4")
    turned = (values << np.uint32(1)) | (values >> np.uint32(31))
    planes = [(turned >> np.uint32(shift)).astype(np.uint8).tobytes() for shift in (24, 16, 8, 0)]
    return _deflated([*planes, content[whole:]], zlib.Z_HUFFMAN_ONLY)


def _classes(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the class of every pixel, int64 `[N, C, H, W]`, from neighbours above it and to its left; outside is black."""
    height, width = pixels.shape[2:]
    # two rows and columns before the image and one column after it; int32, because differences are negative
    padded = np.pad(pixels.astype(np.int32), ((0, 0), (0, 0), (2, 0), (2, 1)))

    def neighbour(up: int, left: int) -> NDArray[np.int32]:
        return padded[:, :, 2 - up : 2 - up + height, 2 - left : 2 - left + width]

    west, north, north_west, north_east = neighbour(0, 1), neighbour(1, 0), neighbour(1, 1), neighbour(1, -1)
    # the predictor of JPEG-LS: a plane through three neighbours, within the range of two of them
    predicted = np.clip(west + north - north_west, np.minimum(west, north), np.maximum(west, north))
    pairs = ((west, north_west), (north_west, north), (north, north_east), (west, neighbour(0, 2)), (north, neighbour(2, 0)))
    contrast = sum((np.abs(one - other) for one, other in pairs), np.zeros_like(west))
    classes: NDArray[np.int64] = predicted // (256 // LEVELS) * (len(CONTRASTS) + 1) + np.digitize(contrast, CONTRASTS)
    return classes


def _deflated(pieces: Iterable[bytes], strategy: int) -> bytes:
    """Return pieces as one zlib stream in which a block of the format, with its own Huffman tables, begins with every piece."""
    stream = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL + 1, strategy)
    content = b"".join(stream.compress(piece) + stream.flush(zlib.Z_BLOCK) for piece in pieces if piece)
    return content + stream.flush()
