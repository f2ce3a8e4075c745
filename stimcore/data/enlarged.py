"""Images that stay small in memory and are resized when they are read: 32-pixel data sets for networks that take 224."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stimcore.data.preprocessing import Preprocessing


class EnlargedPixels:
    """Images in memory that can be indexed like a uint8 array `[N, C, H, W]` of another size; only what is indexed is resized.

    Args:
        stored: uint8 `[N, C, h, w]`, the images as the data set holds them.
        preprocessing: How they are resized and cropped; the normalisation is not used.

    Attributes:
        stored: As given.

    Example:
        >>> from stimcore.data.normalise import Normalisation
        >>> steps = Preprocessing.without_resize((1, 8, 8), Normalisation((0.5,), (0.5,)))
        >>> pixels = EnlargedPixels(np.zeros((3, 1, 4, 4), np.uint8), steps)
        >>> pixels.shape, pixels[:2].shape, pixels[0].shape
        ((3, 1, 8, 8), (2, 1, 8, 8), (1, 8, 8))
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, stored: NDArray[np.uint8], preprocessing: Preprocessing) -> None:
        self.stored, self._preprocessing = stored, preprocessing

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape `[N, C, H, W]` after resizing."""
        return (len(self.stored), *self._preprocessing.input_shape)

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Return one image, or those of a slice or of an array of indices, resized."""
        chosen: NDArray[np.uint8] = self.stored[key]
        if chosen.ndim == len(self.shape) - 1:
            image: NDArray[np.uint8] = self._preprocessing.fit(chosen[None])[0]
            return image
        if not len(chosen):
            return np.empty((0, *self.shape[1:]), np.uint8)
        return self._preprocessing.fit(chosen)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.uint8]:
        """Return all images, resized, for numpy."""
        return self[:].astype(dtype or np.uint8, copy=False)

    def at(self, index: Any) -> "EnlargedPixels":
        """Return the images of a slice or at an array of indices, still small."""
        return EnlargedPixels(self.stored[index], self._preprocessing)
