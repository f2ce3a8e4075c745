"""What the server computes for a visitor: jobs that measure accuracies, and the classification of one image."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from app.sources import connection
from stimcore.errors import StimcoreError
from stimcore.serve.errors import NotFound
from stimcore.serve.types import Classification, ClassifyRequest, Job, JobRequest
from stimcore.subnets.spec import Spec

JobForgotten = NotFound
"""Raised for a job that the server does not know, for instance after a restart."""


@dataclass(frozen=True)
class JobKey:
    """What the accuracies of a job depend on: equal keys have equal results.

    Attributes:
        experiment: Name of the experiment.
        method: Folder of the bundle.
        fingerprint: Of the bundle: one that replaces another under the same name has other numbers.
        specs: The sub-networks.
        recalibrate: Whether batch norms are re-calibrated.
        max_images: Only the first images, at most this many; all when None.
        interactive: Whether a visitor waits for this one number; such jobs go before samples of whole families.
    """

    experiment: str
    method: str
    fingerprint: str
    specs: tuple[Spec, ...]
    recalibrate: bool = True
    max_images: int | None = None
    interactive: bool = True


def start(key: JobKey, *, fresh: bool) -> Job:
    """Start a job, or join the same job of another visitor.

    Args:
        key: What to evaluate.
        fresh: Measure although a result is known.
    """
    request = JobRequest(
        experiment=key.experiment,
        method=key.method,
        specs=tuple(map(str, key.specs)),
        recalibrate=key.recalibrate,
        max_images=key.max_images,
        fresh=fresh,
        interactive=key.interactive,
    )
    return connection.visitor_client().submit(request)


def job(job_id: str) -> Job:
    """Return a job as it is now. Asking counts as watching: the server drops jobs that nobody asks for.

    Raises:
        JobForgotten: The server does not know the job.
    """
    return connection.visitor_client().job(job_id)


def leave(job_id: str) -> None:
    """Report that this visitor no longer watches a job; the server ends it unless others do."""
    try:
        connection.visitor_client().cancel(job_id)
    except StimcoreError:
        return  # the job has ended, or the server has


def classify(
    experiment: str, method: str, specs: Sequence[Spec], *, index: int | None = None, image: bytes | None = None
) -> Classification:
    """Return how sub-networks classify an evaluation image, or the visitor's, which is stored nowhere.

    Args:
        experiment: Name of the experiment.
        method: Folder of the bundle.
        specs: The sub-networks.
        index: An evaluation image; or
        image: the bytes of a PNG or JPEG.
    """
    encoded = None if image is None else base64.b64encode(image).decode()
    request = ClassifyRequest(method=method, specs=tuple(map(str, specs)), index=index, image_base64=encoded)
    return connection.visitor_client().classify(experiment, request)
