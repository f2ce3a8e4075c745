"""The picture wall of an experiment: which evaluation images it shows, and the answers that bundles have stored."""

import base64
from collections.abc import Sequence

from stimcore.bundle import Answers, Bundle
from stimcore.bundle.wall import choose_images
from stimcore.serve import image_codec, types
from stimcore.subnets.spec import Spec


def wall_images(bundles: Sequence[Bundle]) -> tuple[int, ...]:
    """Return the numbers of the evaluation images that the picture wall shows, the same for all methods.

    Args:
        bundles: Bundles of one experiment, at least one. Those of version 2 have stored the choice; without one of these it
            is made here, from the labels alone.
    """
    for bundle in bundles:
        if bundle.wall is not None:
            return bundle.wall.images
    return choose_images(bundles[0].experiment.evaluation[1])


def image_sample(bundle: Bundle, index: int) -> types.Sample:
    """Return an evaluation image as clients get it.

    Args:
        bundle: Any bundle of the experiment.
        index: Number of the image, from 0.
    """
    pixels, labels = bundle.experiment.evaluation
    return types.Sample(
        index=index,
        label=int(labels[index]),
        label_name=bundle.experiment.classes[labels[index]],
        png_base64=base64.b64encode(image_codec.encode_png(pixels[index])).decode(),
    )


def stored_answers(bundle: Bundle, spec: Spec, images: Sequence[int]) -> Answers | None:
    """Return the stored answers of a re-calibrated sub-network on these images; None where they are not stored."""
    wall = bundle.wall
    return None if wall is None or tuple(wall.images) != tuple(images) else wall.states.get(spec)
