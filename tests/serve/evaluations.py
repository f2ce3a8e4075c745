"""Evaluation requests for tests."""

from stimcore.serve import types
from stimcore.serve.client.client import Client

NUM_LONG = 127
"""Sub-networks in a long job: every deletion of seven blocks."""


def job_request(method: str = "common", *specs: str, **more: object) -> types.JobRequest:
    """Return a request for specs of a bundle of the experiment `tiny`; further keys of the request by name."""
    return types.JobRequest.model_validate({"experiment": "tiny", "method": method, "specs": specs, **more})


def submit_long(client: Client, *, count: int = NUM_LONG, interactive: bool = False) -> types.Job:
    """Submit a job of some seconds on one thread: the first `count` deletions of blocks."""
    blocks = (1, 2, 3, 5, 6, 8, 9)
    specs = []
    for mask in range(1, count + 1):
        deleted = {block for i, block in enumerate(blocks) if mask >> i & 1}
        stages = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
        kept = [[str(block) for block in stage if block not in deleted] for stage in stages]
        specs.append(".".join("-".join(stage) or "x" for stage in kept))
    return client.submit(job_request("common", *specs, fresh=True, interactive=interactive))
