"""Networks that run elsewhere: an engine whose inference goes to a Triton, or to another server of ours.

It serves listed networks only: there, nothing can be composed. Names and files are those that `stimcore.export --triton`
writes, on their own re-calibrated statistics.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

from stimcore.bundle import Bundle
from stimcore.engine.engine import Engine
from stimcore.engine.score import Progress, Reference, Tally
from stimcore.errors import SpecError, Unavailable, UsageError
from stimcore.serve.http import oip_codec
from stimcore.serve.repository.repository import triton_name
from stimcore.subnets.topology import Spec

BATCH = 256
Floats = NDArray[np.float32]


class RemoteEngine:
    """The part of `Engine` that a remote server can do. What it can't is refused, in a sentence.

    Args:
        bundle: Opened and verified.
        url: As `address` says.
        local: Composes and checks downloads.
        token: Of the remote server; None when it has none.
    """

    def __init__(self, bundle: Bundle, url: str, local: Callable[[], Engine], token: str | None = None) -> None:
        self.bundle, self._local = bundle, local
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=url, timeout=60, headers=headers, trust_env=False)

    def logits(self, spec: Spec, images: Floats, *, recalibrate: bool = True) -> Floats:
        """Logits `[B, K]` of normalised images `[B, C, H, W]`.

        Raises:
            SpecError: The sub-network is not listed.
            UsageError: Without re-calibration: a file holds its own statistics.
            Unavailable: The remote server does not answer, or refuses.
        """
        if not recalibrate:
            raise UsageError("recalibrate is false", allowed="true: listed files hold their own statistics")
        name = self._name(spec)
        body, length = oip_codec.ask(images)
        try:
            answer = self._http.post(
                f"/v2/models/{name}/infer", content=body, headers={"Inference-Header-Content-Length": str(length)}
            )
        except httpx.TransportError as reason:
            raise Unavailable(f"the inference server at {self._http.base_url} can't be reached") from reason
        if answer.status_code != 200:
            raise Unavailable(f"the inference server refused '{name}': {_sentence(answer)}")
        return oip_codec.logits_of(answer.content, answer.headers.get("Inference-Header-Content-Length"), len(images))

    def evaluate(
        self,
        specs: Sequence[Spec],
        *,
        recalibrate: bool = True,
        chunk_images: int = 1000,
        should_stop: Callable[[], bool] | None = None,
        max_images: int | None = None,
    ) -> Iterator[Progress]:
        """As `Engine.evaluate`, one network after the other."""
        main = self.bundle.topology.full
        wanted = list(dict.fromkeys([main, *specs]))
        for spec in wanted:
            self._name(spec)
        pixels, labels = self.bundle.experiment.evaluation
        total = len(labels) if max_images is None else min(max_images, len(labels))
        tallies = {spec: Tally() for spec in wanted}
        size = min(BATCH, chunk_images)
        for start in range(0, total, size):
            images = self.bundle.experiment.normalise(pixels[start : min(start + size, total)])
            found: dict[Spec, Floats] = {}
            for spec in wanted:
                if should_stop is not None and should_stop():
                    return
                found[spec] = self.logits(spec, images, recalibrate=recalibrate)
            reference = Reference(found[main], labels[start : start + len(images)])
            for spec, logits in found.items():
                tallies[spec].add(logits, reference)
            seen = start + len(images)
            yield Progress("evaluate", seen, total, {spec: tally.score(spec) for spec, tally in tallies.items()})

    def standalone(self, spec: Spec) -> bytes:
        """A self-contained ONNX file, composed here."""
        return self._local().standalone(spec)

    def _name(self, spec: Spec) -> str:
        if self.bundle.listed(spec) is None:
            raise SpecError(
                f"{spec} is not among the listed networks, and the inference server can't compose it",
                allowed=", ".join(Path(name).stem for name in list(self.bundle.manifest.networks)[:8]),
            )
        return triton_name(self.bundle, str(spec))


def _sentence(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])[:300]
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
