"""Routes of bundles: what they store, and their networks as files."""

from typing import Any

from fastapi import APIRouter, Request, Response

from stimcore.bundle import hits
from stimcore.serve import types
from stimcore.serve.errors import NotStored
from stimcore.serve.http.addresses import AddressCounter
from stimcore.serve.http.responses import PiecewiseResponse
from stimcore.serve.http.v1.requests import named_bundle
from stimcore.serve.repository.describe import networks_of, safe_json, stored_sweep
from stimcore.serve.repository.models import bundle_ref
from stimcore.serve.service import Service
from stimcore.serve.threads import in_thread
from stimcore.serve.workers.messages import Standalone


def add_bundle_routes(router: APIRouter, service: Service, calls: AddressCounter) -> None:
    """Add the routes of bundles to a router."""
    base = "/experiments/{experiment}/methods/{method}"

    @router.get(base + "/training", summary="Records of the training's epochs")
    async def training(experiment: str, method: str, request: Request) -> list[dict[str, Any]]:
        bundle = named_bundle(service, request, experiment, method)
        return list(safe_json(await in_thread("training", bundle.training)))

    @router.get(base + "/sweeps/{kind}", summary="Stored accuracies of a family of sub-networks")
    async def sweep(experiment: str, method: str, kind: str, request: Request) -> dict[str, Any]:
        bundle = named_bundle(service, request, experiment, method)
        stored = await in_thread("sweep", lambda: stored_sweep(bundle, kind))
        if stored is None:
            raise NotStored(
                f"{experiment}/{method} has no stored sweep '{kind}'", todo="'python -m stimcore.sweep --store' makes one."
            )
        return dict(safe_json(stored))

    @router.get(
        base + "/hits",
        response_class=Response,
        responses={
            200: {
                "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
                "description": "`hits.npz` of the bundle",
            }
        },
        summary="Which evaluation images the stored sub-networks classify correctly",
    )
    async def stored_hits(experiment: str, method: str, request: Request) -> Response:
        bundle = named_bundle(service, request, experiment, method)
        if not bundle.has(hits.FILE):
            raise NotStored(
                f"{experiment}/{method} has no stored hits",
                todo="'python -m stimcore.bundle migrate' makes them for a bundle of version 1.",
            )
        content = await in_thread("hits", lambda: bundle.read(hits.FILE))
        return PiecewiseResponse(content, media_type="application/octet-stream")

    @router.get(base + "/networks", summary="The listed ONNX files")
    async def networks(experiment: str, method: str, request: Request) -> types.Networks:
        return networks_of(named_bundle(service, request, experiment, method))

    @router.get(
        base + "/onnx",
        response_class=Response,
        responses={
            200: {
                "content": {"application/onnx": {"schema": {"type": "string", "format": "binary"}}},
                "description": "the file",
            }
        },
        summary="A sub-network as one self-contained, verified ONNX file",
    )
    async def onnx(experiment: str, method: str, spec: str, request: Request) -> Response:
        service.must_take_work()
        bundle = named_bundle(service, request, experiment, method)
        parsed, ref = bundle.topology.parse(spec), bundle_ref(bundle)
        with calls.one(request.scope["state"]["address"]):
            model = await service.call(lambda number: Standalone(number, ref, parsed), service.limits.download_s)
        name = f"{experiment}.{method}.{bundle.topology.short(parsed)}"[:120]
        # Names come from folders, which may hold quotes, line breaks or letters that a header can't.
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
        return PiecewiseResponse(
            model, media_type="application/onnx", headers={"Content-Disposition": f'attachment; filename="{safe}.onnx"'}
        )
