"""Images as users know them (PNG, JPEG) to and from pixels as networks know them. Bounded before anything is decoded."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stimcore.errors import UsageError
from stimcore.serve.errors import TooLarge


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG of uint8 `[C, H, W]`, one channel or three."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def pixels_of(data: bytes, shape: tuple[int, int, int], max_pixels: int) -> NDArray[np.uint8]:
    """uint8 `[C, H, W]` of a PNG or JPEG: its middle square (of the networks' aspect), scaled to the networks' size.

    Args:
        data: The file.
        shape: `[C, H, W]` that the networks want.
        max_pixels: More are refused before decoding.

    Raises:
        UsageError: No PNG or JPEG, or a damaged one.
        TooLarge: More than `max_pixels`.
    """
    channels, height, width = shape
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data), formats=["PNG", "JPEG"])
        if image.width * image.height > max_pixels:
            raise TooLarge(f"an image of {image.width:,} x {image.height:,} pixels", allowed=f"at most {max_pixels:,} pixels")
        image = ImageOps.exif_transpose(image)
        image = image.convert("RGB" if channels == 3 else "L")
    except Image.DecompressionBombError as reason:
        raise TooLarge("an image of far too many pixels", allowed=f"at most {max_pixels:,}") from reason
    except (OSError, SyntaxError, ValueError, EOFError) as reason:
        raise UsageError(f"the image can't be read ({type(reason).__name__})", allowed="PNG or JPEG") from reason
    image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))
