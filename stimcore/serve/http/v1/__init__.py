"""Routes under /v1: catalogue, specs, jobs with their event streams, listed networks, samples, classification, runs.

A module has the routes of one noun. Request bodies are parsed here rather than by FastAPI: the limits apply before a body is
read, and the Content-Type that a client sends decides nothing. Job states are JSON text already, made once for all clients that
poll the same job.
"""

from fastapi import APIRouter

from stimcore.serve.http.addresses import AddressCounter
from stimcore.serve.http.error_response import ERROR_RESPONSES
from stimcore.serve.http.v1.bundles import add_bundle_routes
from stimcore.serve.http.v1.images import add_image_routes
from stimcore.serve.http.v1.jobs import add_job_routes
from stimcore.serve.http.v1.runs import add_run_routes
from stimcore.serve.http.v1.server import add_server_routes
from stimcore.serve.service import Service

__all__ = ["routes"]


def routes(service: Service, calls: AddressCounter) -> APIRouter:
    """Return the router of all routes under /v1.

    Args:
        service: The service.
        calls: Counts the downloads and classifications of each address.
    """
    router = APIRouter(prefix="/v1", responses=ERROR_RESPONSES)
    add_server_routes(router, service)
    streams = AddressCounter(service.limits.streams_per_address, "event streams")
    service.metrics.streams.set_function(lambda: streams.total)
    add_job_routes(router, service, streams)
    add_run_routes(router, service, streams)
    add_bundle_routes(router, service, calls)
    add_image_routes(router, service, calls)
    return router
