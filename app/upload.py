"""A visitor's own image: read once, checked, turned upright, re-encoded; never written to disk."""

import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

MAX_BYTES = 2_000_000
MAX_PIXELS = 20_000_000
SIDE = 512
"""Longer sides are made smaller before the image travels on."""


class UploadError(Exception):
    """Why an image can't be used, in one sentence."""


def checked(data: bytes) -> bytes:
    """The image as a PNG without its metadata, upright.

    Raises:
        UploadError: Too large, no image, or one that unpacks to too many pixels.
    """
    if len(data) > MAX_BYTES:
        raise UploadError(
            f"The file has {len(data) / 1e6:.1f} MB; at most {MAX_BYTES // 1_000_000} MB are read. Make it smaller."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise UploadError(
                        f"The image has {width * height / 1e6:.0f} megapixels; at most {MAX_PIXELS // 1_000_000} are read. "
                        "Make it smaller."
                    )
                image.load()
                upright = ImageOps.exif_transpose(image).convert("RGB")
    except UploadError:
        raise
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise UploadError("This is not a readable PNG or JPEG image. Try another file.") from error
    upright.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    upright.save(out, "PNG")
    return out.getvalue()
