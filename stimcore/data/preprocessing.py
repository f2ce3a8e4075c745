"""Preprocessing: the steps from a picture to the numbers that a network takes. One value, stored with every experiment.

Knows numpy and Pillow only, so that the serving half, which must not import torch, can use it too.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stimcore.data.normalise import Normalisation
from stimcore.errors import UsageError

Mode = Literal["L", "RGB"]
BitDepth = Literal["scale", "clip"]
Filter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]

SIXTEEN_BIT_FORMATS = ("PNG", "PPM")
"""Formats whose pictures of mode `I` have samples from 0 to 65535; elsewhere the mode stands for numbers of 32 bits."""
MAX_RESIZED_PIXELS = 1 << 24
"""Pictures that would have more pixels after resizing, before the crop, are cropped first: one of 1 x 20,000,000 pixels would
take terabytes."""
# Pillow warns of damaged metadata, large pictures and transparency in palettes; what matters of it is reported elsewhere. Its
# texts hold bytes of the files, and Python remembers every different one: a server would grow with them. `catch_warnings` would
# not do: it changes the filters of all threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True, kw_only=True)
class Resize:
    """Resizing with the aspect ratio kept.

    Attributes:
        shorter: Length of the shorter side afterwards, in pixels.
        filter: Pillow's name of the resampling filter. All but `nearest` average over more pixels when they shrink.
    """

    shorter: int
    filter: Filter


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The steps from a picture to the numbers that a network takes, in this order.

    Training, evaluation, export, server and dashboard read pictures with this class; `stimcore.data.program` writes the same
    steps as a program of its own. A picture that has the size `crop` already is neither resized nor cropped, so that a picture
    that was prepared and stored once (in a bundle, as a PNG) stays what it is when it is read again.

    Attributes:
        exif_orientation: Whether a picture is turned as its EXIF orientation demands.
        bit_depth: What happens to samples of 12 and 16 bits: `scale` maps black .. white to 0 .. 255, `clip` cuts the numbers
            off at 255.
        mode: Pillow's colour mode: `L` (grey, one channel) or `RGB`. Transparency is dropped.
        resize: How the picture is resized. With None it is resized (bilinear) until it just covers the crop.
        crop: Height and width in pixels of the centre that is cut out: the size of the network's input.
        normalisation: Mean and standard deviation per channel, of pixels scaled to [0, 1].

    Example:
        >>> plain = Preprocessing.without_resize((1, 28, 28), Normalisation((0.5,), (0.25,)))
        >>> plain.input_shape, plain(np.zeros((2, 1, 28, 28), np.uint8)).max()
        ((1, 28, 28), np.float32(-2.0))
        >>> Preprocessing.from_dict(plain.to_dict()) == plain
        True
    """

    exif_orientation: bool = True
    bit_depth: BitDepth = "scale"
    mode: Mode
    resize: Resize | None = None
    crop: tuple[int, int]
    normalisation: Normalisation

    @classmethod
    def without_resize(cls, image_shape: tuple[int, int, int], normalisation: Normalisation) -> Self:
        """Return the preprocessing of images `[C, H, W]` that have the size of the network's input already."""
        channels, height, width = image_shape
        return cls(mode="L" if channels == 1 else "RGB", crop=(height, width), normalisation=normalisation)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape `[C, H, W]` of one image as the network takes it."""
        return (1 if self.mode == "L" else 3, *self.crop)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return decoded pixels as the float32 input `[B, C, H, W]` of a network.

        Args:
            pixels: uint8 `[B, C, h, w]`, of the network's size or of the size before resize and crop.
        """
        return self.normalisation(self.fit(pixels))

    def fit(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return decoded pixels, resized and cropped to the network's size `[B, C, H, W]`.

        Pixels that have this size are returned as they are.
        """
        if pixels.shape[2:] == self.crop:
            return pixels
        return np.stack([as_pixels(self._fit_image(_as_image(image))) for image in pixels])

    def read(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return an opened picture as pixels of the network's size, uint8 `[C, H, W]`.

        Raises:
            UsageError: The range of the picture's samples is not known.
        """
        return as_pixels(self._fit_image(self.decode(image)))

    def decode(self, image: Image.Image) -> Image.Image:
        """Return an opened picture upright, with 8 bits and in the mode `mode`, in its original size.

        Of several frames or pages the one that is open is used: the first one, unless the caller chose another. CMYK and
        other colour spaces are converted by Pillow's formulas, without colour profiles.

        Raises:
            UsageError: The range of the picture's samples is not known: they are floating-point numbers, or whole numbers of
                32 bits.
        """
        if (reason := unknown_range(image)) is not None:
            raise UsageError(f"a picture of {reason}", allowed="whole numbers of up to 16 bits")
        black, white = sample_range(image)  # a picture that was turned has no tags
        if self.exif_orientation:
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # grey files of 12 or 16 bits, as `I;16` or `I`
            samples = np.asarray(image).astype(np.int64)
            if self.bit_depth == "scale":
                most = max(black, white)
                samples = (abs(samples - black) * 255 + most // 2) // most
            image = Image.fromarray(samples.clip(0, 255).astype(np.uint8))
        return image.convert(self.mode)

    def _fit_image(self, image: Image.Image) -> Image.Image:
        """Return a picture, resized and cropped to the network's size."""
        height, width = self.crop
        if image.size == (width, height):
            return image
        if self.resize is None:
            scale, resample = max(width / image.width, height / image.height), Image.Resampling.BILINEAR
        else:
            scale, resample = self.resize.shorter / min(image.size), Image.Resampling[self.resize.filter.upper()]
        # rounding must not leave less than the crop needs
        size = max(width, round(image.width * scale)), max(height, round(image.height * scale))
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        if size[0] * size[1] > MAX_RESIZED_PIXELS:
            # a very long and narrow picture: only what the crop shows is computed, the same up to rounding
            x, y = image.width / size[0], image.height / size[1]
            box = (left * x, top * y, min((left + width) * x, image.width), min((top + height) * y, image.height))
            return image.resize((width, height), resample, box=box)
        return image.resize(size, resample).crop((left, top, left + width, top + height))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; `from_dict` reads it back."""
        resize = None if self.resize is None else {"shorter": self.resize.shorter, "filter": self.resize.filter}
        return {
            "exif_orientation": self.exif_orientation,
            "bit_depth": self.bit_depth,
            "mode": self.mode,
            "resize": resize,
            "crop": list(self.crop),
            "mean": list(self.normalisation.mean),
            "std": list(self.normalisation.std),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Return the value that `to_dict` wrote; unknown keys are ignored.

        Raises:
            ValueError: A key is missing, or has a value that is not allowed.
        """
        try:
            height, width = _pair(value["crop"])
            resize = value["resize"]
            if resize is not None:
                resize = Resize(shorter=_positive(resize["shorter"]), filter=_one_of(Filter, resize["filter"]))
            mean, std = (tuple(float(number) for number in value[key]) for key in ("mean", "std"))
            result = cls(
                exif_orientation=_boolean(value["exif_orientation"]),
                bit_depth=_one_of(BitDepth, value["bit_depth"]),
                mode=_one_of(Mode, value["mode"]),
                resize=resize,
                crop=(_positive(height), _positive(width)),
                normalisation=Normalisation(mean, std),
            )
        except (KeyError, TypeError) as reason:
            raise ValueError(f"the preprocessing lacks a key or holds a wrong type ({reason})") from reason
        channels = result.input_shape[0]
        if not len(mean) == len(std) == channels or not all(number > 0 for number in std):
            raise ValueError(f"mean {mean} and std {std}: {channels} numbers each are needed, with std above 0")
        return result


def _pair(value: object) -> tuple[object, object]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"crop {value!r}: 2 numbers each are needed, height and width")
    return value[0], value[1]


def _positive(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{value!r} is not a number of pixels")
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _one_of(allowed: Any, value: object) -> Any:
    if value not in get_args(allowed):
        raise ValueError(f"{value!r} is not one of {', '.join(get_args(allowed))}")
    return value


def _as_image(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return one image `[C, H, W]` as a Pillow image."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def as_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return a picture of mode `L` or `RGB` as a writable array, uint8 `[C, H, W]`."""
    values = np.array(image, np.uint8)
    return values[None] if values.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1))


def sample_range(image: Image.Image) -> tuple[int, int]:
    """Return the numbers that stand for black and for white in an opened picture of one of the modes that begin with `I`.

    Pillow gives samples of 12 bits as they are, in a mode of 16 bits, and inverts TIFF files in which white is zero only where
    they have 8 bits or less. All other files reach us with white as 65535.

    Example:
        >>> sample_range(Image.new("I;16", (2, 2)))
        (0, 65535)
    """
    tags = getattr(image, "tag_v2", {})  # of TIFF files: 258 is the number of bits, and 262 is 0 where white is zero
    most: int = 2 ** tags.get(258, (16,))[0] - 1
    return (most, 0) if tags.get(262) == 0 else (0, most)


def unknown_range(image: Image.Image) -> str | None:
    """Return what the samples of an opened picture are if nothing says which number is white; None if that is known.

    Example:
        >>> unknown_range(Image.new("F", (2, 2))), unknown_range(Image.new("RGB", (2, 2)))
        ('floating-point samples, of unknown range', None)
    """
    if image.mode == "F":
        return "floating-point samples, of unknown range"
    if image.mode == "I" and image.format not in SIXTEEN_BIT_FORMATS:
        tags = getattr(image, "tag_v2", {})  # of TIFF files: bits per sample, and whether samples have a sign
        bits, sign = tags.get(258, (32,))[0], "signed " if tags.get(339, (1,))[0] == 2 else ""
        return f"{sign}samples of {bits} bits, of unknown range"
    return None
