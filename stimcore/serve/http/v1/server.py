"""Routes of the server: what it serves, and how it is."""

from fastapi import APIRouter

from stimcore.serve import types
from stimcore.serve.service import Service


def add_server_routes(router: APIRouter, service: Service) -> None:
    """Add the routes of the server to a router."""

    @router.get("/catalogue", summary="Experiments that are served, and folders that could not be opened")
    async def catalogue() -> types.Catalogue:
        return service.repository.snapshot.catalogue

    @router.post("/rescan", summary="Scan the folder again")
    async def rescan() -> types.Catalogue:
        service.must_take_work()
        return await service.rescan()

    @router.get("/status", summary="State of the server")
    async def status() -> types.Status:
        return service.status()
