"""The client of a model server: methods that return the API's types and raise `stimcore.errors`. Threads may share one."""

import copy
import json
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from stimcore.analysis.result import Sweep
from stimcore.bundle.hits import Hits
from stimcore.errors import Unavailable, UsageError
from stimcore.serve import types
from stimcore.serve.answers import (
    checked,
    event_texts,
    onnx_content,
    parse,
    parse_list,
    parse_rows,
    parse_stream,
    parse_with,
    strange_answer,
)
from stimcore.serve.errors import NotStored
from stimcore.serve.tls import distrust_error, is_distrust, ssl_context
from stimcore.serve.tokens import is_sendable
from stimcore.serve.types.base import MAX_CLIENT_CHARS

T = TypeVar("T", bound=BaseModel)
MAX_CONNECTIONS = 128
"""Connections of a client and of all that share them: a classroom's event streams, and as many requests."""
RETRY_S = 10.0
"""Time for which a request is repeated while a server that has answered before does not: longer than it needs to restart."""


class Client:
    """Client of the routes under /v1.

    Every request can be repeated without harm: equal jobs share one evaluation, and everything else only reads. The client
    therefore repeats a request for `RETRY_S` while a server that has answered it before can't be reached or breaks the
    connection, so that a restart of the server costs its callers a pause and no error. An address that never answered is an
    error at once.

    Args:
        base_url: Address of the server, as in `http://127.0.0.1:8000`.
        token: The server's token; None when it has none.
        client_id: Name under which jobs are watched, at most `MAX_CLIENT_CHARS` printable ASCII characters; a new random one
            when None. Clients with equal names count as one.
        timeout_s: Time for a single answer.
        forwarded_for: Address of the machine that the requests are made for; empty for this machine. It counts only at a server
            that trusts this machine (`--trusted-proxy`).

    Raises:
        UsageError: `base_url` is no address, no header can carry the token or the name, or the file that `SSL_CERT_FILE` names
            can't be used.

    Example:
        >>> from stimcore.serve.types import JobRequest
        >>> client = Client("http://127.0.0.1:8000")
        >>> request = JobRequest(experiment="resnet20-fashion", method="common", specs=["d1-1-1", "d2-2-2"])
        >>> request.model_dump_json(exclude_defaults=True)
        '{"experiment":"resnet20-fashion","method":"common","specs":["d1-1-1","d2-2-2"]}'

        With a server at that address (`python -m stimcore.serve exported/` starts one)::

            job = client.wait(client.submit(request).id)
            for result in job.results:
                print(result.spec, result.accuracy_pct, result.interval_pct)
    """

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        client_id: str | None = None,
        timeout_s: float = 150.0,
        *,
        forwarded_for: str = "",
    ) -> None:
        self.base_url, self.client_id = base_url.rstrip("/"), _checked_id(client_id or uuid.uuid4().hex)
        self.forwarded_for = forwarded_for
        self._has_answered = threading.Event()
        if token and not is_sendable(token):
            raise UsageError("the token holds white space or characters outside of ASCII", allowed="printable ASCII characters")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if not base_url.startswith(("http://", "https://")):
            raise UsageError(f"the server's address is '{base_url[:80]}'", allowed="as in http://127.0.0.1:8000")
        try:
            self._http = httpx.Client(
                base_url=self.base_url,
                headers=headers,
                timeout=httpx.Timeout(timeout_s, connect=5.0),
                limits=httpx.Limits(max_connections=MAX_CONNECTIONS),
                verify=ssl_context(),
                trust_env=False,
            )
        except (httpx.InvalidURL, UnicodeError) as reason:
            raise UsageError(f"the server's address is '{base_url[:80]}'", allowed="as in http://127.0.0.1:8000") from reason

    def with_id(self, client_id: str, forwarded_for: str = "") -> Self:
        """Return a client of another name that shares the connections of this one: closing either closes both.

        A program that asks for many users needs one name for each, but not connections for each.

        Args:
            client_id: The name.
            forwarded_for: Address of the machine that the requests are made for; empty for this machine.

        Raises:
            UsageError: No header can carry the name.
        """
        other = copy.copy(self)
        other.client_id, other.forwarded_for = _checked_id(client_id), forwarded_for
        return other

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def catalogue(self) -> types.Catalogue:
        """Return all experiments that the server has open, and the folders that it could not open."""
        return self._get(types.Catalogue, "/v1/catalogue")

    def rescan(self) -> types.Catalogue:
        """Make the server look at its folder again; return the new catalogue."""
        return parse(types.Catalogue, self._send("POST", "/v1/rescan"))

    def status(self) -> types.Status:
        """Return the state of the server and its limits for images."""
        return self._get(types.Status, "/v1/status")

    def check_spec(self, experiment: str, text: str, method: str | None = None) -> types.SpecCheck:
        """Return whether a text names a sub-network of a bundle, or of the experiment's network when `method` is None."""
        params = {"text": text} if method is None else {"text": text, "method": method}
        return self._get(types.SpecCheck, f"/v1/experiments/{_segment(experiment)}/spec", params)

    def submit(self, request: types.JobRequest) -> types.Job:
        """Start a job, or join the one that does the same; it is done at once when all results are known.

        Raises:
            NotFound: There is no such experiment or method.
            SpecError: The network does not have one of the sub-networks.
            TooLarge: There are more specs than the server allows.
            TooMany: This client has as many jobs in progress as the server allows.
            Busy: The queue is full, or the server is ending.
        """
        return parse(types.Job, self._send("POST", "/v1/jobs", content=request.model_dump_json()))

    def job(self, id: str) -> types.Job:
        """Return the current state of a job. A job that no client asks for within `lease_s` is dropped.

        Raises:
            NotFound: There is no such job, or it was forgotten.
        """
        return self._get(types.Job, f"/v1/jobs/{_segment(id)}")

    def jobs(self) -> list[types.JobLine]:
        """Return all jobs that the server remembers."""
        return parse_list(types.JobLine, self._send("GET", "/v1/jobs"))

    def cancel(self, id: str) -> types.Job:
        """Stop watching a job; the server ends it if no other client watches it.

        Raises:
            NotFound: There is no such job, or it was forgotten.
        """
        return parse(types.Job, self._send("DELETE", f"/v1/jobs/{_segment(id)}"))

    def wait(self, id: str, seconds: float = 600.0, every_s: float = 0.1) -> types.Job:
        """Poll a job until it has ended; return its final state.

        Raises:
            Unavailable: The job had not ended after `seconds`.
            NotFound: There is no such job, or it was forgotten.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if (job := self.job(id)).state not in ("queued", "running"):
                return job
            time.sleep(every_s)
        raise Unavailable(f"the evaluation was not done after {seconds:g} s")

    def events(self, id: str, last_event_id: int | None = None) -> Iterator[types.Event]:
        """Yield the events of a job until its last; a stream that breaks is resumed after the last event received.

        Args:
            id: Identifier of the job.
            last_event_id: Id of the last event that is known already.

        Raises:
            NotFound: There is no such job.
            Unavailable: The server does not answer, or the stream ended before the job.
        """
        last, until, pause = last_event_id or 0, 0.0, 0.1
        while True:
            reason: httpx.RequestError | None = None
            try:
                for event in self._stream(id, last):
                    last, until, pause = event.id, 0.0, 0.1
                    yield event
                    if event.type == "done":
                        return
            except httpx.RequestError as broken:
                reason = broken
            until = until or time.monotonic() + RETRY_S
            if reason is not None and (time.monotonic() > until or not self._may_repeat(reason)):
                raise self._unavailable(reason) from reason
            if time.monotonic() > until:
                raise Unavailable(f"the events of {id} end early", todo="Poll the evaluation instead.")
            time.sleep(pause)
            pause *= 2

    def training(self, experiment: str, method: str) -> list[dict[str, Any]]:
        """Return the records of the epochs of a bundle's training."""
        return parse_rows(self._send("GET", _bundle_path(experiment, method, "training")))

    def sweep(self, experiment: str, method: str, kind: str) -> Sweep | None:
        """Return the stored accuracies of a family of sub-networks; None where none are stored."""
        try:
            answer = self._send("GET", _bundle_path(experiment, method, f"sweeps/{_segment(kind)}"))
        except NotStored:
            return None
        return parse_with(lambda content: Sweep.from_dict(json.loads(content)), answer)

    def hits(self, experiment: str, method: str) -> Hits | None:
        """Return which evaluation images the stored sub-networks of a bundle classify correctly; None where none are stored."""
        try:
            answer = self._send("GET", _bundle_path(experiment, method, "hits"))
        except NotStored:
            return None
        return parse_with(Hits.from_bytes, answer)

    def networks(self, experiment: str, method: str) -> types.Networks:
        """Return the listed ONNX files of a bundle."""
        return self._get(types.Networks, _bundle_path(experiment, method, "networks"))

    def onnx(self, experiment: str, method: str, spec: str) -> bytes:
        """Return a sub-network as one self-contained, verified ONNX file.

        Raises:
            SpecError: The network does not have this sub-network.
        """
        return onnx_content(self._send("GET", _bundle_path(experiment, method, "onnx"), {"spec": spec}))

    def samples(self, experiment: str, count: int, seed: int) -> list[types.Sample]:
        """Return `count` evaluation images, drawn with a seed."""
        params = {"count": str(count), "seed": str(seed)}
        return parse_list(types.Sample, self._send("GET", f"/v1/experiments/{_segment(experiment)}/samples", params))

    def wall(self, experiment: str) -> list[types.Sample]:
        """Return the evaluation images of the picture wall, the same for all methods of an experiment."""
        return parse_list(types.Sample, self._send("GET", f"/v1/experiments/{_segment(experiment)}/wall"))

    def wall_answers(self, experiment: str, method: str, spec: str, *, recalibrate: bool = True) -> types.WallAnswers:
        """Return the answers of a sub-network on the images of the picture wall.

        Raises:
            SpecError: The network does not have this sub-network.
        """
        params = {"spec": spec, "recalibrate": str(recalibrate).lower()}
        return self._get(types.WallAnswers, _bundle_path(experiment, method, "wall"), params)

    def classify(self, experiment: str, request: types.ClassifyRequest) -> types.Classification:
        """Return the predictions of sub-networks for one image.

        Raises:
            UsageError: The image can't be read.
            TooLarge: The image is larger than `image_bytes` or `image_pixels` of `status`.
        """
        path = f"/v1/experiments/{_segment(experiment)}/classify"
        return parse(types.Classification, self._send("POST", path, content=request.model_dump_json()))

    def runs(self) -> list[types.RunInfo]:
        """Return the run folders on the server's machine, the one written last first."""
        return parse_list(types.RunInfo, self._send("GET", "/v1/runs"))

    def training_offer(self) -> types.TrainingOffer:
        """Return what the server trains on request."""
        return self._get(types.TrainingOffer, "/v1/runs/offer")

    def start_run(self, request: types.RunRequest) -> types.RunInfo:
        """Have a network trained and exported into the served folder; runs wait for each other, and for no client.

        A run that waits or trains already stays as it is.

        Raises:
            Forbidden: The server starts no trainings.
            Busy: The queue is full.
            UsageError: Something in the request is not offered, or such a run has ended already.
        """
        return parse(types.RunInfo, self._send("POST", "/v1/runs", content=request.model_dump_json()))

    def run(self, name: str) -> types.RunInfo:
        """Return a run by its name, `EXPERIMENT/RUN`.

        Raises:
            NotFound: There is no such run.
        """
        return self._get(types.RunInfo, _run_path(name))

    def stop_run(self, name: str) -> types.RunInfo:
        """Stop a run, which keeps its last finished epoch.

        Raises:
            NotFound: No server made such a run.
        """
        return parse(types.RunInfo, self._send("DELETE", _run_path(name)))

    def continue_run(self, name: str) -> types.RunInfo:
        """Continue a run that was stopped or has failed; one that waits or trains already stays as it is.

        Raises:
            NotFound: No server made such a run.
        """
        return parse(types.RunInfo, self._send("POST", f"{_run_path(name)}/continue", content=""))

    def run_events(self, name: str, last_event_id: int = 0) -> Iterator[types.RunEvent]:
        """Yield the events of a run until it waits and trains no longer.

        Args:
            name: `EXPERIMENT/RUN`.
            last_event_id: Number of the last event that is not wanted again.

        Raises:
            NotFound: There is no such run.
            Unavailable: The connection breaks.
        """
        headers = {"Last-Event-ID": str(last_event_id), **self._named()}
        try:
            with self._http.stream("GET", f"{_run_path(name)}/events", headers=headers) as answer:
                if answer.status_code != 200:
                    answer.read()
                yield from parse_stream(types.RunEvent, checked(answer))
        except httpx.RequestError as reason:
            raise self._unavailable(reason) from reason

    def _get(self, kind: type[T], path: str, params: dict[str, str] | None = None) -> T:
        return parse(kind, self._send("GET", path, params))

    def _send(self, method: str, path: str, params: dict[str, str] | None = None, content: str | None = None) -> httpx.Response:
        """Return the answer to a request, which is repeated while the server restarts.

        Raises:
            Unavailable: The server does not answer.
            StimcoreError: The server refuses the request; of the type that belongs to its code.
        """
        until, pause = 0.0, 0.1
        while True:
            try:
                answer = self._http.request(method, path, params=params, content=content, headers=self._named())
            except httpx.RequestError as reason:
                # The time runs from the first break: a server that hung for a while before it was killed is starting now.
                until = until or time.monotonic() + RETRY_S
                if time.monotonic() > until or not self._may_repeat(reason):
                    raise self._unavailable(reason) from reason
            except (httpx.InvalidURL, UnicodeError) as reason:
                raise UsageError(f"{ascii(path[:80])[1:-1]} can't be asked for with this text") from reason
            else:
                self._has_answered.set()
                return checked(answer)
            time.sleep(pause)
            pause *= 2

    def _may_repeat(self, reason: httpx.RequestError) -> bool:
        """Return whether a request that failed may succeed a little later: a server is ending, and another one starts."""
        if isinstance(reason, httpx.ReadError | httpx.WriteError | httpx.RemoteProtocolError):
            return True  # the connection was open, so a process holds the socket
        return isinstance(reason, httpx.ConnectError) and self._has_answered.is_set() and not is_distrust(reason)

    def _stream(self, id: str, last: int) -> Iterator[types.Event]:
        headers = {"Last-Event-ID": str(last), **self._named()}
        with self._http.stream("GET", f"/v1/jobs/{_segment(id)}/events", headers=headers) as answer:
            self._has_answered.set()
            if answer.status_code != 200:
                answer.read()
            yield from parse_stream(types.Event, checked(answer))

    def _named(self) -> dict[str, str]:
        headers = {"X-Stimcore-Client": self.client_id}
        return headers | {"X-Forwarded-For": self.forwarded_for} if self.forwarded_for else headers

    def _unavailable(self, reason: Exception) -> Unavailable:
        if is_distrust(reason):
            return distrust_error(f"the model server at {self.base_url}")
        if isinstance(reason, httpx.DecodingError):
            return strange_answer(self.base_url)
        if isinstance(reason, httpx.TimeoutException) and not isinstance(reason, httpx.ConnectTimeout):
            return Unavailable(f"the model server at {self.base_url} did not answer in time", todo="Try again in a moment.")
        return Unavailable(
            f"the model server at {self.base_url} can't be reached",
            todo="Is it running? 'python -m stimcore.serve' starts one.",
        )


def parse_events(lines: Iterable[str]) -> Iterator[types.Event]:
    """Yield the events of a server-sent event stream.

    Args:
        lines: Lines of the stream, without their ends. An empty line ends an event; a line that starts with a colon is a
            comment.

    Raises:
        ValueError: An event is none of a job.

    Example:
        >>> lines = ["id: 3", "event: done", 'data: {"state": "done", "source": "measured"}', "", ": still there", ""]
        >>> [(event.id, event.type, event.data["state"]) for event in parse_events(lines)]
        [(3, 'done', 'done')]
    """
    yield from map(types.Event.model_validate_json, event_texts(lines))


def _checked_id(client_id: str) -> str:
    """Return a client's name, unless no header can carry it.

    Raises:
        UsageError: It is too long, or holds white space or characters outside of ASCII.
    """
    if len(client_id) > MAX_CLIENT_CHARS or not is_sendable(client_id):
        raise UsageError(
            f"the client's name is {ascii(client_id[:80])}", allowed=f"at most {MAX_CLIENT_CHARS} printable ASCII characters"
        )
    return client_id


def _segment(name: str) -> str:
    """Return a name as one segment of a path. An empty name would change the path, so that `-` takes its place.

    Half a surrogate pair is in no name: a question mark takes its place, and the server finds no such name.
    """
    return quote(name, safe="", errors="replace") or "-"


def _run_path(name: str) -> str:
    experiment, _, run = name.partition("/")
    return f"/v1/runs/{_segment(experiment)}/{_segment(run)}"


def _bundle_path(experiment: str, method: str, what: str) -> str:
    return f"/v1/experiments/{_segment(experiment)}/methods/{_segment(method)}/{what}"
