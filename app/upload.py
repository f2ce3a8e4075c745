"""A visitor's picture: read once, checked, turned upright and encoded again; never written to disk."""

import io
import warnings
from dataclasses import dataclass

from PIL import Image, ImageOps, UnidentifiedImageError

MAX_SIDE = 512
"""Pictures with a longer side are made smaller before they go to the server, which needs far fewer pixels."""


@dataclass(frozen=True)
class ImageLimits:
    """The largest picture that the model server accepts.

    Attributes:
        num_bytes: Size of the file in bytes.
        num_pixels: Width times height.
    """

    num_bytes: int
    num_pixels: int

    @property
    def megabytes(self) -> str:
        """The size of the file in words: `2 MB`."""
        return f"{self.num_bytes / 1e6:g} MB"


class UploadError(Exception):
    """Why a picture can't be used, in one sentence."""


def read_upload(data: bytes, limits: ImageLimits) -> bytes:
    """Return an uploaded picture as an upright PNG without metadata.

    Args:
        data: The file as it was uploaded.
        limits: Of the server. They are checked before anything is decoded.

    Raises:
        UploadError: The file is too large, is no PNG or JPEG, or has too many pixels.
    """
    if len(data) > limits.num_bytes:
        raise UploadError(f"The file has {len(data) / 1e6:.1f} MB; at most {limits.megabytes} are read. Make it smaller.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our bound on pixels is checked below
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
                _check_pixels(*image.size, limits)
                image.load()
                upright = ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise UploadError("This is not a readable PNG or JPEG picture. Try another file.") from error
    upright.thumbnail((MAX_SIDE, MAX_SIDE))
    out = io.BytesIO()
    upright.save(out, "PNG")
    return out.getvalue()


def _check_pixels(width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.num_pixels:
        raise UploadError(
            f"The picture has {width * height / 1e6:.0f} megapixels; at most {limits.num_pixels / 1e6:g} are read. "
            "Make it smaller."
        )
