"""The one client of a server: methods that return wire types and raise `stimcore.errors`. May be shared by threads."""

import ssl
import time
import uuid
from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, TypeAdapter

from stimcore.errors import StimcoreError, Unavailable, UsageError
from stimcore.serve import types
from stimcore.serve.errors import NotStored, rebuilt

T = TypeVar("T", bound=BaseModel)
PATIENCE_S = 5.0
"""How long a server that ends a connection or says `not now` is asked again: about the time that one needs to restart."""


@cache
def _trusted() -> ssl.SSLContext:
    """Authorities that vouch for servers: read once, since that takes longer than a visitor's whole page otherwise does."""
    return httpx.create_ssl_context(trust_env=False)


class Client:
    """Speaks /v1.

    Args:
        base_url: As in `http://127.0.0.1:8000`.
        token: The server's, None when it has none.
        client_id: Who watches evaluations; a new one when None. Equal ids count as one client.
        timeout_s: For a single answer.

    Raises:
        UsageError: `base_url` is no address.
    """

    def __init__(self, base_url: str, token: str | None = None, client_id: str | None = None, timeout_s: float = 150.0) -> None:
        self.base_url, self.client_id = base_url.rstrip("/"), client_id or uuid.uuid4().hex
        headers = {"X-Stimcore-Client": self.client_id}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if not base_url.startswith(("http://", "https://")):
            raise UsageError(f"the server's address is '{base_url[:80]}'", allowed="as in http://127.0.0.1:8000")
        try:
            self._http = httpx.Client(
                base_url=self.base_url,
                headers=headers,
                timeout=httpx.Timeout(timeout_s, connect=5.0),
                limits=httpx.Limits(max_connections=64),
                verify=_trusted(),
                trust_env=False,
            )
        except (httpx.InvalidURL, UnicodeError) as reason:
            raise UsageError(f"the server's address is '{base_url[:80]}'", allowed="as in http://127.0.0.1:8000") from reason

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def catalogue(self) -> types.Catalogue:
        """Everything that is served, and what could not be."""
        return self._get(types.Catalogue, "/v1/catalogue")

    def rescan(self) -> types.Catalogue:
        """Has the server look at its folder again."""
        return _read(types.Catalogue, self._answer("POST", "/v1/rescan"))

    def status(self) -> types.Status:
        """The server itself."""
        return self._get(types.Status, "/v1/status")

    def check_spec(self, experiment: str, text: str, method: str | None = None) -> types.SpecCheck:
        """Whether a text names a sub-network: of a bundle, or of the experiment's network when `method` is None."""
        params = {"text": text} if method is None else {"text": text, "method": method}
        return self._get(types.SpecCheck, f"/v1/experiments/{_part(experiment)}/spec", params)

    def submit(self, request: types.JobRequest) -> types.Job:
        """Starts an evaluation, or joins the one that does the same; done at once when everything is known."""
        return _read(types.Job, self._answer("POST", "/v1/jobs", content=request.model_dump_json()))

    def job(self, id: str) -> types.Job:
        """An evaluation as it is now. Asking at least every few seconds keeps it alive."""
        return self._get(types.Job, f"/v1/jobs/{_part(id)}")

    def jobs(self) -> list[types.JobLine]:
        """All evaluations that the server remembers."""
        return TypeAdapter(list[types.JobLine]).validate_json(self._answer("GET", "/v1/jobs").content)

    def cancel(self, id: str) -> types.Job:
        """Ends this client's interest; the work ends unless others watch it too."""
        return _read(types.Job, self._answer("DELETE", f"/v1/jobs/{_part(id)}"))

    def wait(self, id: str, seconds: float = 600.0, every_s: float = 0.1) -> types.Job:
        """Polls until an evaluation has ended.

        Raises:
            Unavailable: It had not by then.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if (job := self.job(id)).state not in ("queued", "running"):
                return job
            time.sleep(every_s)
        raise Unavailable(f"the evaluation was not done after {seconds:g} s")

    def events(self, id: str, last_event_id: int | None = None) -> Iterator[types.Event]:
        """Events of an evaluation until its last; a stream that breaks off is taken up again where it was.

        Raises:
            NotFound: There is no such evaluation.
            Unavailable: The server is down.
        """
        last, broken = last_event_id or 0, 0
        while True:
            try:
                for event in self._stream(id, last):
                    last, broken = event.id, 0
                    yield event
                    if event.type == "done":
                        return
            except httpx.TransportError as reason:
                broken += 1
                if broken > 3:
                    raise self._down(reason) from reason
            else:
                broken += 1
                if broken > 3:
                    raise Unavailable(f"the events of {id} end early", todo="Poll the evaluation instead.")
            time.sleep(0.2 * broken)

    def training(self, experiment: str, method: str) -> list[dict[str, Any]]:
        """Records of the epochs."""
        return list(self._answer("GET", _of(experiment, method, "training")).json())

    def sweep(self, experiment: str, method: str, kind: str) -> dict[str, Any] | None:
        """Stored accuracies of a family, None where there are none."""
        try:
            return dict(self._answer("GET", _of(experiment, method, f"sweeps/{_part(kind)}")).json())
        except NotStored:
            return None

    def networks(self, experiment: str, method: str) -> types.Networks:
        """The listed ONNX files."""
        return self._get(types.Networks, _of(experiment, method, "networks"))

    def onnx(self, experiment: str, method: str, spec: str) -> bytes:
        """A sub-network as one self-contained, verified ONNX file."""
        return self._answer("GET", _of(experiment, method, "onnx"), {"spec": spec}).content

    def samples(self, experiment: str, count: int, seed: int) -> list[types.Sample]:
        """Evaluation images, drawn with a seed."""
        params = {"count": str(count), "seed": str(seed)}
        answer = self._answer("GET", f"/v1/experiments/{_part(experiment)}/samples", params)
        return TypeAdapter(list[types.Sample]).validate_json(answer.content)

    def classify(self, experiment: str, request: types.ClassifyRequest) -> types.Classification:
        """What sub-networks say of one image."""
        path = f"/v1/experiments/{_part(experiment)}/classify"
        return _read(types.Classification, self._answer("POST", path, content=request.model_dump_json()))

    def runs(self) -> list[types.RunInfo]:
        """Run folders on the server's machine."""
        return TypeAdapter(list[types.RunInfo]).validate_json(self._answer("GET", "/v1/runs").content)

    def _get(self, kind: type[T], path: str, params: dict[str, str] | None = None) -> T:
        return _read(kind, self._answer("GET", path, params))

    def _answer(
        self, method: str, path: str, params: dict[str, str] | None = None, content: str | None = None
    ) -> httpx.Response:
        """One answer; every request here can be repeated, so a server that restarts costs a pause.

        Raises:
            Unavailable: The server is down.
            StimcoreError: What it says.
        """
        until, pause = time.monotonic() + PATIENCE_S, 0.1
        while True:
            try:
                answer = self._http.request(method, path, params=params, content=content)
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as reason:
                if time.monotonic() > until:
                    raise self._down(reason) from reason
            except httpx.TransportError as reason:
                raise self._down(reason) from reason
            except httpx.InvalidURL as reason:
                raise UsageError(f"{path[:80]} is no path") from reason
            else:
                return _checked(answer)
            time.sleep(pause)
            pause *= 2

    def _stream(self, id: str, last: int) -> Iterator[types.Event]:
        headers = {"Last-Event-ID": str(last)}
        with self._http.stream("GET", f"/v1/jobs/{_part(id)}/events", headers=headers) as answer:
            if answer.status_code != 200:
                answer.read()
            _checked(answer)
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if line and name in ("id", "event", "data"):
                    fields[name] = value
                elif not line and fields:
                    text = f'{{"id": {fields["id"]}, "type": "{fields["event"]}", "data": {fields["data"]}}}'
                    yield types.Event.model_validate_json(text)
                    fields = {}

    def _down(self, reason: Exception) -> Unavailable:
        if isinstance(reason, httpx.TimeoutException) and not isinstance(reason, httpx.ConnectTimeout):
            return Unavailable(f"the model server at {self.base_url} did not answer in time", todo="Try again in a moment.")
        return Unavailable(
            f"the model server at {self.base_url} can't be reached",
            todo="Is it running? 'python -m stimcore.serve' starts one.",
        )


def _read(kind: type[T], answer: httpx.Response) -> T:
    return kind.model_validate_json(answer.content)


def _part(name: str) -> str:
    """A name within a path."""
    return quote(name, safe="") or "-"


def _of(experiment: str, method: str, what: str) -> str:
    return f"/v1/experiments/{_part(experiment)}/methods/{_part(method)}/{what}"


def _checked(answer: httpx.Response) -> httpx.Response:
    """The answer unless it is a refusal.

    Raises:
        StimcoreError: What it says, by its code.
    """
    if answer.status_code < 400:
        return answer
    try:
        refusal = types.Refusal.model_validate_json(answer.content)
    except ValueError as reason:
        raise StimcoreError(f"the server answered {answer.status_code} without saying why") from reason
    raise rebuilt(refusal.code, refusal.error)
