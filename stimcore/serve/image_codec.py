"""Image files (PNG, JPEG) from and to pixels as the networks take them. The size is checked before anything is decoded."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stimcore.errors import UsageError
from stimcore.serve.errors import TooLarge


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a PNG file of uint8 pixels `[C, H, W]` with one channel or three."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def decode_image(data: bytes, shape: tuple[int, int, int], max_pixels: int) -> NDArray[np.uint8]:
    """Return the pixels of a PNG or JPEG file: its middle, of the networks' aspect, scaled to the networks' size.

    Args:
        data: The file.
        shape: `[C, H, W]` that the networks take; C is 1 or 3.
        max_pixels: Largest width times height that is decoded.

    Returns:
        uint8 `[C, H, W]`.

    Raises:
        UsageError: The file is neither PNG nor JPEG, or is damaged.
        TooLarge: The image has more than `max_pixels`.

    Example:
        >>> file = encode_png(np.full((1, 30, 40), 7, np.uint8))
        >>> decode_image(file, (1, 2, 2), max_pixels=1200).tolist()
        [[[7, 7], [7, 7]]]
    """
    channels, height, width = shape
    try:
        with warnings.catch_warnings():
            # Pillow warns from 90 million pixels and refuses twice as many; our default limit is lower.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data), formats=["PNG", "JPEG"])  # reads the header, decodes nothing
        if image.width * image.height > max_pixels:
            raise TooLarge(f"an image of {image.width:,} x {image.height:,} pixels", allowed=f"at most {max_pixels:,} pixels")
        image = ImageOps.exif_transpose(image)  # phones store photographs turned, with the turn as a tag
        image = image.convert("RGB" if channels == 3 else "L")
    except Image.DecompressionBombError as reason:
        raise TooLarge("an image of far too many pixels", allowed=f"at most {max_pixels:,}") from reason
    except (OSError, SyntaxError, ValueError, EOFError) as reason:
        raise UsageError(f"the image can't be read ({type(reason).__name__})", allowed="PNG or JPEG") from reason
    image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))
