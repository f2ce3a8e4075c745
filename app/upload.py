"""A visitor's picture: read once, checked, and prepared as the networks take it; never written to disk."""

from dataclasses import dataclass

from stimcore.data.preprocessing import Preprocessing
from stimcore.errors import UsageError
from stimcore.serve.image_codec import decode_image, encode_png


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


def read_upload(data: bytes, limits: ImageLimits, preprocessing: Preprocessing) -> bytes:
    """Return an uploaded picture as a PNG of the networks' size, without metadata.

    The server's own function decodes it, by the same steps, so that the answer is the one that the file itself would get: a
    picture of the networks' size is taken as it is.

    Args:
        data: The file as it was uploaded.
        limits: Of the server. They are checked before anything is decoded.
        preprocessing: The steps of the experiment.

    Raises:
        UploadError: The file is too large, is no PNG or JPEG, has too many pixels, or is damaged.
    """
    if len(data) > limits.num_bytes:
        raise UploadError(f"The file has {len(data) / 1e6:.1f} MB; at most {limits.megabytes} are read. Make it smaller.")
    try:
        return encode_png(decode_image(data, preprocessing, limits.num_pixels))
    except UsageError as reason:
        text = str(reason)
        raise UploadError(f"{text[0].upper()}{text[1:]} Try another picture.") from reason
