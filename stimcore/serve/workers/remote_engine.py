"""An engine whose networks run on another server: NVIDIA Triton, or a second stimcore server.

The remote server can't compose sub-networks, so that only the listed ones run: the files that `stimcore.export --triton`
writes, each with its re-calibrated statistics.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import numpy as np

from stimcore.bundle import Bundle
from stimcore.engine.budget import Budget
from stimcore.engine.inference import Floats, InferenceEngine, Progress
from stimcore.engine.tally import Reference, Tally
from stimcore.errors import BundleError, SpecError, Unavailable, UsageError
from stimcore.serve import oip_codec
from stimcore.serve.logs import TRACEPARENT
from stimcore.serve.repository.models import triton_name
from stimcore.serve.tls import distrust_error, is_distrust, ssl_context
from stimcore.subnets.spec import Spec

REQUEST_IMAGES = 256
"""Images in one request to the remote server."""
BUNDLE_HEADER = "X-Stimcore-Bundle"
"""Header in which a stimcore server names the fingerprint of the bundle that an answer is about."""
MAX_DIFFERENT_FRAC = 0.01
"""Share of the images that are compared for which other hardware may round to another answer. Two trainings of one network
differ in more: in 3.5 to 12 of 100 among the committed bundles."""


class RemoteEngine:
    """Runs the listed networks of a bundle on a remote server; everything else is refused in a sentence.

    A remote server may hold another export under the same name. A stimcore server names the bundle in each answer; what any
    other server answers is compared once per network with the stored answers to some of the evaluation images.

    Args:
        bundle: Opened and verified.
        url: `http://HOST:PORT` of the remote server, or the same with https.
        local: Makes a local engine, which composes self-contained files.
        token: Bearer token of the remote server; None when it asks for none.
    """

    def __init__(self, bundle: Bundle, url: str, local: Callable[[], InferenceEngine], token: str | None = None) -> None:
        self.bundle, self._local = bundle, local
        self._compared: set[str] = set()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=url, timeout=60, headers=headers, verify=ssl_context(), trust_env=False)

    def logits(self, spec: Spec, images: Floats, *, recalibrate: bool = True) -> Floats:
        """Return logits `[B, K]` of normalised images `[B, C, H, W]`.

        Raises:
            SpecError: The sub-network is not listed.
            UsageError: `recalibrate` is False: listed files hold re-calibrated statistics only.
            Unavailable: The remote server does not answer, or refuses the request.
            BundleError: The remote server has another network under this name.
        """
        if not recalibrate:
            raise UsageError("recalibrate is false", allowed="true: listed files hold their own statistics")
        name = self._name(spec)
        logits, fingerprint = self._ask(name, images)
        if fingerprint is None:
            self._compare(spec, name)
        elif fingerprint != self.bundle.fingerprint:
            raise self._other_network(name)
        return logits

    def evaluate(
        self,
        specs: Sequence[Spec],
        *,
        recalibrate: bool = True,
        chunk_images: int = 1000,
        should_stop: Callable[[], bool] | None = None,
        max_images: int | None = None,
    ) -> Iterator[Progress]:
        """Evaluate one network after the other; see `InferenceEngine.evaluate`.

        Raises:
            SpecError: One of the sub-networks is not listed.
            UsageError: `recalibrate` is False.
            Unavailable: The remote server does not answer, or refuses the request.
            BundleError: The remote server has another network under one of the names.
        """
        main = self.bundle.topology.full
        wanted = list(dict.fromkeys([main, *specs]))
        for spec in wanted:
            self._name(spec)
        pixels, labels = self.bundle.experiment.evaluation
        total = len(labels) if max_images is None else min(max_images, len(labels))
        tallies = {spec: Tally() for spec in wanted}
        size = min(REQUEST_IMAGES, chunk_images)
        for start in range(0, total, size):
            images = self.bundle.experiment.normalise(pixels[start : min(start + size, total)])
            logits_by_spec: dict[Spec, Floats] = {}
            for spec in wanted:
                if should_stop is not None and should_stop():
                    return
                logits_by_spec[spec] = self.logits(spec, images, recalibrate=recalibrate)
            reference = Reference(logits_by_spec[main], labels[start : start + len(images)])
            for spec, logits in logits_by_spec.items():
                tallies[spec].add(logits, reference)
            seen = start + len(images)
            yield Progress("evaluate", seen, total, {spec: tally.result(spec) for spec, tally in tallies.items()})

    def prepare(self, specs: Sequence[Spec], _should_stop: Callable[[], bool], /) -> None:  # part of the protocol
        """Check the names of sub-networks; the files of the remote server hold their own statistics.

        Raises:
            SpecError: One of the sub-networks is not listed.
        """
        for spec in specs:
            self._name(spec)

    def standalone(self, spec: Spec) -> bytes:
        """Return a self-contained ONNX file, which a local engine composes."""
        return self._local().standalone(spec)

    def warm_up(self, _should_stop: Callable[[], bool], /) -> None:  # part of the protocol; nothing is cached here
        """Do nothing: this engine keeps nothing between calls."""

    def metrics(self) -> Mapping[str, float]:
        """Return no numbers: this engine has no caches."""
        return {}

    def resize_caches(self, _budget: Budget, /) -> None:  # part of the protocol; nothing is cached here
        """Do nothing: this engine has no caches."""

    def _ask(self, name: str, images: Floats) -> tuple[Floats, str | None]:
        """Return the remote server's logits, and the fingerprint of the bundle that it names for them, if it names one."""
        body, length = oip_codec.encode_request(images)
        headers = {"Inference-Header-Content-Length": str(length)}
        if traceparent := TRACEPARENT.get():
            headers["traceparent"] = traceparent
        try:
            answer = self._http.post(f"/v2/models/{name}/infer", content=body, headers=headers)
        except httpx.DecodingError as reason:
            raise Unavailable(f"the inference server's answer can't be read: {str(reason)[:120]}") from reason
        except httpx.RequestError as reason:
            if is_distrust(reason):
                raise distrust_error(f"the inference server at {self._http.base_url}") from reason
            raise Unavailable(f"the inference server at {self._http.base_url} can't be reached") from reason
        if answer.status_code != 200:
            raise Unavailable(f"the inference server refused '{name}': {_sentence(answer)}")
        logits = oip_codec.decode_response(answer.content, answer.headers.get("Inference-Header-Content-Length"), len(images))
        return logits, answer.headers.get(BUNDLE_HEADER)

    def _compare(self, spec: Spec, name: str) -> None:
        """Compare a remote network, once, with the stored answers; do nothing where there are none.

        Raises:
            BundleError: It is another network.
        """
        if name in self._compared or (stored := self.bundle.hits(spec)) is None:
            return
        pixels, labels = self.bundle.experiment.evaluation
        count = min(REQUEST_IMAGES, len(labels))
        logits, _ = self._ask(name, self.bundle.experiment.normalise(pixels[:count]))
        different = np.count_nonzero((logits.argmax(axis=1) == labels[:count]) != stored[:count])
        if different > MAX_DIFFERENT_FRAC * count:
            raise self._other_network(name)
        self._compared.add(name)

    def _other_network(self, name: str) -> BundleError:
        return BundleError(
            f"what the inference server at {self._http.base_url} calls '{name}' is not the network of {self.bundle.path}",
            todo="Export this bundle for it again.",
        )

    def _name(self, spec: Spec) -> str:
        if self.bundle.listed(spec) is None:
            raise SpecError(
                f"{spec} is not among the listed networks, and the inference server can't compose it",
                allowed=", ".join(Path(name).stem for name in list(self.bundle.manifest.networks)[:8]),
            )
        return triton_name(self.bundle, spec)


def _sentence(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])[:300]
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
