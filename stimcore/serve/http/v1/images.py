"""Routes of images: evaluation images, the picture wall, and what sub-networks say to a picture."""

import base64
import binascii
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Request

from stimcore.bundle import Bundle
from stimcore.errors import UsageError
from stimcore.serve import types
from stimcore.serve.errors import TooLarge
from stimcore.serve.http.addresses import AddressCounter
from stimcore.serve.http.v1.requests import body_schema, named_bundle, note_bundle, read_model
from stimcore.serve.repository.models import bundle_ref
from stimcore.serve.repository.wall import image_sample, stored_answers, wall_images
from stimcore.serve.service import Service
from stimcore.serve.threads import in_thread
from stimcore.serve.workers.messages import AnswerImages, Classify


def add_image_routes(router: APIRouter, service: Service, calls: AddressCounter) -> None:
    """Add the routes of images to a router."""

    @router.get("/experiments/{experiment}/samples", summary="Evaluation images, drawn with a seed")
    async def samples(
        experiment: str,
        request: Request,
        count: Annotated[int, Query(ge=1)] = 12,
        seed: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    ) -> list[types.Sample]:
        bundle = note_bundle(request, service.repository.experiment(experiment))
        if count > service.limits.samples:
            raise TooLarge(f"{count:,} samples", allowed=f"at most {service.limits.samples}")
        return await in_thread("samples", lambda: _samples(bundle, count, seed))

    @router.get("/experiments/{experiment}/wall", summary="Evaluation images of the picture wall, the same for all methods")
    async def wall(experiment: str, request: Request) -> list[types.Sample]:
        bundles = service.repository.bundles_of(experiment)
        note_bundle(request, bundles[0])

        def read() -> list[types.Sample]:
            return [image_sample(bundles[0], index) for index in wall_images(bundles)]

        return await in_thread("wall", read)

    @router.get(
        "/experiments/{experiment}/methods/{method}/wall", summary="Answers of a sub-network on the images of the picture wall"
    )
    async def wall_answers(
        experiment: str, method: str, spec: str, request: Request, recalibrate: bool = True
    ) -> types.WallAnswers:
        service.must_take_work()
        bundle, bundles = named_bundle(service, request, experiment, method), service.repository.bundles_of(experiment)
        images = await in_thread("wall", lambda: wall_images(bundles))
        parsed, ref = bundle.topology.parse(spec), bundle_ref(bundle)
        stored = await in_thread("answers", lambda: stored_answers(bundle, parsed, images)) if recalibrate else None
        answers = stored
        if answers is None:
            with calls.one(request.scope["state"]["address"]):
                answers = await service.call(
                    lambda number: AnswerImages(number, ref, parsed, recalibrate, images), service.limits.call_s
                )
        return types.WallAnswers(
            spec=str(parsed),
            classes=answers.classes,
            confidence=answers.confidence,
            source="measured" if stored is None else "stored",
        )

    @router.post(
        "/experiments/{experiment}/classify",
        summary="Predictions of sub-networks for one image",
        openapi_extra=body_schema(types.ClassifyRequest),
    )
    async def classify(experiment: str, request: Request) -> types.Classification:
        service.must_take_work()
        limits = service.limits
        max_bytes = limits.image_bytes * 4 // 3 + limits.json_bytes  # base64 makes four characters of three bytes
        asked = await read_model(types.ClassifyRequest, request, service, max_bytes)
        bundle = named_bundle(service, request, experiment, asked.method)
        if (asked.index is None) == (asked.image_base64 is None):
            raise UsageError("index and image_base64", allowed="exactly one of both")
        if not asked.specs:
            raise UsageError("no specs were given", allowed=f"1 to {limits.classify_specs}")
        if len(asked.specs) > limits.classify_specs:
            raise TooLarge(f"{len(asked.specs)} specs", allowed=f"1 to {limits.classify_specs}")
        image = None if asked.image_base64 is None else _decode_base64(asked.image_base64, limits.image_bytes)
        ref, specs = bundle_ref(bundle), [bundle.topology.parse(text) for text in asked.specs]
        with calls.one(request.scope["state"]["address"]):
            png, predictions = await service.call(
                lambda number: Classify(number, ref, specs, asked.index, image, limits.image_pixels), limits.call_s
            )
        results = [types.Classified(spec=str(spec), probabilities=probabilities) for spec, probabilities in predictions]
        return types.Classification(png_base64=base64.b64encode(png).decode(), results=results)


def _decode_base64(text: str, max_bytes: int) -> bytes:
    try:
        # the command base64 and encoders of mail break lines
        data = base64.b64decode(text.translate(str.maketrans("", "", "\r\n")), validate=True)
    except (binascii.Error, ValueError) as reason:
        raise UsageError(
            "image_base64 is not base64", allowed="a PNG or JPEG file in base64 with + and /, without 'data:image/png;base64,'"
        ) from reason
    if len(data) > max_bytes:
        raise TooLarge(f"an image of {len(data):,} bytes", allowed=f"at most {max_bytes:,}")
    return data


def _samples(bundle: Bundle, count: int, seed: int) -> list[types.Sample]:
    num_images = len(bundle.experiment.evaluation[1])
    chosen = np.random.Generator(np.random.PCG64(seed)).permutation(num_images)[:count]
    return [image_sample(bundle, int(index)) for index in chosen]
