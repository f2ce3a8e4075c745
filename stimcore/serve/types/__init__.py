"""Types of the HTTP API: what server and client send each other, as frozen pydantic models that forbid unknown keys.

This is the only definition of the JSON under /v1; server and client both import it from here, the documented address of every
type. A module defines the types of one noun. They know no HTTP: paths and statuses are in `http/v1` and
`client/client.py`.
"""

from stimcore.serve.types.base import RESULT_SCHEMA, ApiModel, Refusal, ResultField, SpecTexts, Status
from stimcore.serve.types.catalogue import Catalogue, ExperimentInfo, MethodInfo, NetworkInfo, Networks, Problem, SpecCheck
from stimcore.serve.types.jobs import Event, Job, JobError, JobLine, JobPhase, JobRequest, JobSource, JobState
from stimcore.serve.types.pictures import Classification, Classified, ClassifyRequest, Sample, WallAnswers
from stimcore.serve.types.runs import RunEvent, RunInfo, RunRequest, RunState, TrainingData, TrainingOffer

__all__ = [
    "RESULT_SCHEMA",
    "ApiModel",
    "Catalogue",
    "Classification",
    "Classified",
    "ClassifyRequest",
    "Event",
    "ExperimentInfo",
    "Job",
    "JobError",
    "JobLine",
    "JobPhase",
    "JobRequest",
    "JobSource",
    "JobState",
    "MethodInfo",
    "NetworkInfo",
    "Networks",
    "Problem",
    "Refusal",
    "ResultField",
    "RunEvent",
    "RunInfo",
    "RunRequest",
    "RunState",
    "Sample",
    "SpecCheck",
    "SpecTexts",
    "Status",
    "TrainingData",
    "TrainingOffer",
    "WallAnswers",
]
