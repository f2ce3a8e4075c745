"""Evaluation images, and what sub-networks answer for an image: on the picture wall, and for one that a client chooses."""

from collections.abc import Sequence

from stimcore.serve.types.base import ApiModel, SpecTexts
from stimcore.serve.types.jobs import JobSource


class Sample(ApiModel):
    """One evaluation image.

    Attributes:
        index: Position among the evaluation images, from 0.
        label: Index of the true class.
        label_name: Name of the true class.
        png_base64: The image as a PNG file in base64.
    """

    index: int
    label: int
    label_name: str
    png_base64: str


class WallAnswers(ApiModel):
    """Answers of one sub-network on the images of the picture wall, in the order of these images.

    Attributes:
        spec: Long form of the sub-network.
        classes: For each image the index of the class with the largest probability.
        confidence: For each image that probability, in [0, 1].
        source: `stored` (in the bundle) or `measured`.
    """

    spec: str
    classes: Sequence[int]
    confidence: Sequence[float]
    source: JobSource


class ClassifyRequest(ApiModel):
    """Request to classify one image with several sub-networks. Exactly one of `index` and `image_base64` is given.

    Attributes:
        method: Name of the bundle.
        specs: Sub-networks, in any form of the spec grammar.
        index: Position of an evaluation image, from 0.
        image_base64: A PNG or JPEG file in base64, within the limits `image_bytes` and `image_pixels` (see `Status`).
    """

    method: str
    specs: SpecTexts
    index: int | None = None
    image_base64: str | None = None


class Classified(ApiModel):
    """Prediction of one sub-network for one image.

    Attributes:
        spec: Long form of the sub-network.
        probabilities: One probability per class, in the order of the experiment's classes.
    """

    spec: str
    probabilities: Sequence[float]


class Classification(ApiModel):
    """Predictions of several sub-networks for one image.

    Attributes:
        png_base64: The image as the networks received it, cropped and scaled, as a PNG file in base64.
        results: One prediction per spec, in the order of the request.
    """

    png_base64: str
    results: Sequence[Classified]
