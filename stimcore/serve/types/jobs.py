"""Evaluation jobs: what a client asks for, and how far the server is."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from stimcore.serve.types.base import ApiModel, ResultField, SpecTexts

JobState = Literal["queued", "running", "done", "failed", "cancelled", "dropped"]
"""`cancelled`: by a client; `dropped`: because no client watched the job any more."""

JobPhase = Literal["queued", "calibrate", "evaluate", "done"]
"""What a job does at the moment."""

JobSource = Literal["stored", "cached", "measured"]
"""Where results come from: the bundle, an earlier job of this server, or this job."""


class JobRequest(ApiModel):
    """Request to evaluate sub-networks of one bundle.

    Attributes:
        experiment: Name of the experiment.
        method: Name of the bundle.
        specs: Sub-networks, in any form of the spec grammar, in the bundle's topology.
        recalibrate: Whether batch norms are re-calibrated for each sub-network.
        max_images: Evaluate on the first `max_images` images; on all when None.
        fresh: Evaluate even if a stored or cached result exists.
        interactive: Whether the job is scheduled before jobs that are not interactive, such as sweeps.
    """

    experiment: str
    method: str
    specs: SpecTexts
    recalibrate: bool = True
    max_images: int | None = None
    fresh: bool = False
    interactive: bool = True


class JobError(ApiModel):
    """Reason why a job failed.

    Attributes:
        code: Stable code, as in `Refusal`.
        message: One sentence.
    """

    code: str
    message: str


class Job(ApiModel):
    """State of an evaluation job.

    Attributes:
        id: Identifier of the job.
        state: Whether the job waits, runs or has ended, and how it ended.
        request: The request, with its specs in long form.
        phase: `queued`, `calibrate`, `evaluate` or `done`.
        images: Number of images that were evaluated so far.
        images_total: Number of images that the job evaluates.
        main: Result of the main network on the same images; None before the first chunk.
        results: Results in the order of the request's specs; empty before the first chunk.
        source: `stored` (in the bundle), `cached` (measured by this server before) or `measured`.
        provider: onnxruntime's name of the execution provider that runs the networks, or that ran them when the results were
            stored; empty while the job is queued.
        note: What the reader has to know about how the numbers came about, in one sentence: that the GPU could not run the job,
            for instance. Empty when there is nothing.
        error: Why the job failed; None unless `state` is `failed`.
        fingerprint: Fingerprint of the bundle that the results belong to, as in `MethodInfo`; empty when an older server sends
            the job.
    """

    id: str
    state: JobState
    request: JobRequest
    phase: JobPhase
    images: int
    images_total: int
    main: ResultField | None
    results: Sequence[ResultField]
    source: JobSource
    provider: str
    note: str = ""
    error: JobError | None = None
    fingerprint: str = ""


class JobLine(ApiModel):
    """An entry in the list of jobs: a `Job` without its specs and results.

    Attributes:
        id: Identifier of the job.
        state: As in `Job`.
        experiment: Name of the experiment.
        method: Name of the bundle.
        num_specs: Number of sub-networks.
        images: Number of images that were evaluated so far.
        images_total: Number of images that the job evaluates.
    """

    id: str
    state: JobState
    experiment: str
    method: str
    num_specs: int
    images: int
    images_total: int


class Event(ApiModel):
    """One server-sent event of a job.

    Attributes:
        id: Grows along the stream. A client that reconnects sends the last one that it received as `Last-Event-ID`.
        type: `progress` (with phase, images, images_total), `result` (with images, images_total, main, results: all results so
            far, which replace those of earlier events), `error` (with code, message) or `done` (with state, source), the last.
        data: The values listed above, as in `Job`.
    """

    id: int
    type: Literal["progress", "result", "error", "done"]
    data: Mapping[str, Any]
