"""The trainings that a server was asked for: they wait, and one at a time runs in a process of its own."""

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stimcore import files
from stimcore.errors import Unavailable, UsageError
from stimcore.serve import types
from stimcore.serve.errors import Busy, Forbidden, NotFound
from stimcore.serve.limits import Limits
from stimcore.serve.threads import in_thread
from stimcore.serve.tokens import ADMIN_VARIABLE, ENGINE_TOKEN_VARIABLE, READ_VARIABLE
from stimcore.serve.training.offer import DataSource, TrainingConfig, data_sources, describe, why_not
from stimcore.serve.training.plan import REQUEST_FILE, TrainingPlan, bundle_name, make_plan, read_request

log = logging.getLogger("stimcore.serve")
LOG_FILE = "server.log"
"""File in the run folder with everything that training and export print."""
LOG_TAIL_BYTES = 4096
END_S = 20.0
"""Time for a process to end after its input has closed, before it is killed; longer than `child.GRACE_S`."""
KEPT = 256
"""Runs that have ended whose state is remembered; older ones are told by their folders."""
UNFINISHED = ("queued", "training", "exporting")
_SECRETS = (
    ENGINE_TOKEN_VARIABLE,
    *(f"{name}{ending}" for name in (ADMIN_VARIABLE, READ_VARIABLE) for ending in ("", "_FILE")),
)


class _Stopped(Exception):
    """A run was stopped, or its time is over; the text is what the run's state says of it."""


@dataclass
class Training:
    """One run that was asked for.

    Attributes:
        plan: What is done.
        resume: Whether it continues an earlier run.
        state: As in `RunInfo`.
        message: As in `RunInfo`.
        stop: Set to stop it.
    """

    plan: TrainingPlan
    resume: bool
    state: types.RunState
    message: str
    stop: asyncio.Event


class TrainingQueue:
    """Runs the trainings that clients ask for, one after the other.

    No client owns a run: it goes on when nobody watches. Every run keeps its request in its folder, so that it can be continued
    after the server was restarted.

    Args:
        config: What the operator allows.
        exported: Folder of experiments into which finished runs are exported.
        runs: Folder of run folders.
        limits: Bounds of the server.
        on_export: Called when a bundle was written or changed.
    """

    def __init__(
        self,
        config: TrainingConfig,
        *,
        exported: Path,
        runs: Path,
        limits: Limits,
        on_export: Callable[[], Awaitable[object]],
    ) -> None:
        self.config, self.exported, self.runs, self.limits = config, exported.absolute(), runs.absolute(), limits
        self._on_export = on_export
        self._trainings: dict[str, Training] = {}
        self._sources: list[DataSource] | None = None
        self._working: asyncio.Task[None] | None = None
        self._ending = False

    async def offer(self, infos: Sequence[types.RunInfo]) -> types.TrainingOffer:
        """Return what can be trained here.

        Args:
            infos: Every run folder, the last written first.
        """
        return describe(self.config, self.limits, [] if why_not(self.config) else await self._data(), infos)

    async def submit(self, request: types.RunRequest) -> TrainingPlan:
        """Put a training into the queue; one that waits or trains already stays as it is, so that a request can be repeated.

        Raises:
            Forbidden: The server starts no trainings.
            Unavailable: Torch is not installed.
            Busy: The queue is full.
            UsageError: Something in the request is not offered, or there is such a run already.
        """
        self.check_allowed()
        plan = make_plan(request, self.config, await self._data(), self.limits)
        if self._is_unfinished(plan.name):
            if not plan.is_same(self._trainings[plan.name].plan):
                raise _is_taken(plan, self._trainings[plan.name].plan.request)
            return plan
        if (folder := self.runs / plan.name).joinpath("run.json").exists():
            raise UsageError(
                f"the run {plan.name} is there already", todo="Continue it, or change the seed, the epochs or the images."
            )
        if (stored := read_request(folder)) is not None and stored.network != request.network:
            raise _is_taken(plan, stored)
        self._check_space()
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(folder / REQUEST_FILE, request.model_dump(mode="json"))
        self._add(plan, resume=False)
        return plan

    async def resume(self, name: str) -> TrainingPlan:
        """Put a run that was stopped or has failed into the queue again; one that waits or trains stays as it is.

        Args:
            name: `EXPERIMENT/RUN`.

        Raises:
            Forbidden: The server starts no trainings.
            Unavailable: Torch is not installed.
            NotFound: No server made such a run.
            Busy: The queue is full.
            UsageError: Something in it is no longer offered.
        """
        self.check_allowed()
        request = self._request_of(name)
        plan = make_plan(request, self.config, await self._data(), self.limits)
        if plan.name != name:
            raise UsageError(f"the run {name} holds the request of {plan.name}", allowed="folders that were not renamed")
        if not self._is_unfinished(name):
            self._check_space()
            self._add(plan, resume=True)
        return plan

    def stop(self, name: str) -> None:
        """Stop a run; it keeps its last finished epoch. A run that has ended stays as it is.

        Args:
            name: `EXPERIMENT/RUN`.

        Raises:
            Forbidden: The server starts no trainings.
            NotFound: No server made such a run.
        """
        self.check_allowed()
        if (training := self._trainings.get(name)) is None:
            self._request_of(name)
            return
        training.stop.set()
        if training.state == "queued":
            training.state, training.message = "stopped", ""

    def describe(self, infos: Sequence[types.RunInfo]) -> list[types.RunInfo]:
        """Return run folders with the state of those that this server works on; the ones that wait come first.

        Args:
            infos: Every run folder, as `runs_under` reads it.
        """
        known = {info.name for info in infos}
        created = [_created(t) for name, t in self._trainings.items() if name not in known]
        waiting = [training for training in self._trainings.values() if training.state == "queued"]
        described = []
        for info in (*created, *infos):
            training = self._trainings.get(info.name)
            if training is None:
                described.append(self._with_bundle(info))
                continue
            message = training.message
            if training.state == "queued":
                ahead = waiting.index(training) + any(t.state in UNFINISHED[1:] for t in self._trainings.values())
                message = f"{ahead} before it" if ahead else ""
            described.append(
                info.model_copy(
                    update={
                        "state": training.state,
                        "message": message,
                        "active": training.state == "training",
                        "managed": True,
                        "bundle": f"{training.plan.experiment}/{training.plan.bundle}" if training.state == "done" else "",
                    }
                )
            )
        return described

    async def close(self) -> None:
        """End the process of the run in progress, which keeps its last finished epoch."""
        self._ending = True
        for training in self._trainings.values():
            training.stop.set()
        if self._working is not None:
            await self._working

    def _with_bundle(self, info: types.RunInfo) -> types.RunInfo:
        """Return a run that this server has not worked on, with the bundle that an earlier server exported it to."""
        if not info.managed or info.state != "done":
            return info
        experiment, _, _ = info.name.partition("/")
        request = read_request(self.runs / info.name)
        bundle = "" if request is None else f"{experiment}/{bundle_name(request)}"
        if bundle and (self.exported / bundle / "manifest.json").exists():
            return info.model_copy(update={"bundle": bundle})
        return info.model_copy(update={"state": "stopped", "message": "It is trained and not exported yet."})

    def check_allowed(self) -> None:
        """Refuse a request where no training may start.

        Raises:
            Forbidden: The server starts no trainings.
            Unavailable: It can't: torch is missing, for example.
            Busy: The server is ending.
        """
        if reason := why_not(self.config):
            raise Unavailable(reason.rstrip(".")) if self.config.allowed else Forbidden(reason.rstrip("."))
        if self._ending:
            raise Busy("the server is ending", todo="Try again in a moment.")

    def _check_space(self) -> None:
        if sum(training.state in UNFINISHED for training in self._trainings.values()) >= self.limits.trainings:
            raise Busy(f"{self.limits.trainings} trainings wait or run", todo="Stop one, or try again later.")

    def _is_unfinished(self, name: str) -> bool:
        training = self._trainings.get(name)
        return training is not None and (training.state in UNFINISHED)

    def _request_of(self, name: str) -> types.RunRequest:
        """Return the request of a run. Names come from clients: only folders that the server lists are looked into."""
        for path in self.runs.glob(f"*/*/{REQUEST_FILE}"):
            if f"{path.parent.parent.name}/{path.parent.name}" == name and (request := read_request(path.parent)) is not None:
                return request
        raise NotFound(f"no server made a run '{name[:120]}'")

    async def _data(self) -> Sequence[DataSource]:
        if self._sources is None:
            self._sources = await in_thread("data", lambda: data_sources(self.config))
        return self._sources

    def _add(self, plan: TrainingPlan, *, resume: bool) -> None:
        self._trainings.pop(plan.name, None)  # so that it is the last in the order
        self._trainings[plan.name] = Training(plan, resume, "queued", "", asyncio.Event())
        ended = [name for name, training in self._trainings.items() if training.state not in UNFINISHED]
        for name in ended[:-KEPT]:
            del self._trainings[name]
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())

    async def _work(self) -> None:
        """Run what waits, one after the other, until nothing waits."""
        while (training := next((t for t in self._trainings.values() if t.state == "queued"), None)) and not self._ending:
            try:
                await self._run(training)
            except _Stopped as reason:
                training.state, training.message = "stopped", str(reason)
            except Unavailable as reason:
                training.state, training.message = "failed", str(reason)
            except Exception:  # whatever it is, the next run must not wait for ever
                log.exception("a training failed in the server")
                training.state, training.message = "failed", "The server failed; its log has the reason."
            else:
                training.state, training.message = "done", ""
            with contextlib.suppress(Exception):  # a bundle that can't be opened is listed among the problems
                await self._on_export()
            log.info("training", extra={"fields": {"run": training.plan.name, "state": training.state}})

    async def _run(self, training: Training) -> None:
        plan, until = training.plan, time.monotonic() + self.limits.training_s
        training.state, training.message = "training", ""
        await self._command(training, plan.training(self.runs, resume=training.resume), until)
        training.state = "exporting"
        await self._command(training, plan.export(self.runs, self.exported), until)
        if plan.swept:
            await self._command(training, plan.sweep(self.exported), until)

    async def _command(self, training: Training, words: Sequence[str], until: float) -> None:
        """Run one command to its end.

        Raises:
            _Stopped: The run was stopped, or its time is over.
            Unavailable: The command failed.
        """
        path = self.runs / training.plan.name / LOG_FILE
        with path.open("ab") as out:
            began = out.tell()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "stimcore.serve.training.child", *words),
                stdin=asyncio.subprocess.PIPE,
                stdout=out,
                stderr=asyncio.subprocess.STDOUT,
                env=_environment(os.environ),
            )
        ending, stopping = asyncio.create_task(process.wait()), asyncio.create_task(training.stop.wait())
        try:
            await asyncio.wait(
                (ending, stopping), timeout=max(0.0, until - time.monotonic()), return_when=asyncio.FIRST_COMPLETED
            )
            if not ending.done():
                await _end(process)
                if training.stop.is_set():
                    raise _Stopped("")
                raise _Stopped(
                    f"It was stopped after {self.limits.training_s:g} s, the longest time here; continue it for more."
                )
        finally:
            stopping.cancel()
        if process.returncode != 0:
            raise Unavailable(_reason(path, began, words[0]))


def _is_taken(plan: TrainingPlan, other: types.RunRequest) -> UsageError:
    """Return the error for a request whose run folder belongs to another request."""
    return UsageError(
        f"the run {plan.name} is one of the network {other.network}", todo="Change the seed, the epochs or the images."
    )


def _created(training: Training) -> types.RunInfo:
    """Return a run whose folder was not read yet."""
    request = training.plan.request
    return types.RunInfo(
        name=training.plan.name, method=request.method, epochs=request.epochs, rows=(), active=False, network=request.network
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close the input of a process, which interrupts its command, and wait until it has ended."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(END_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command, which may import modules of the operator that have no use for tokens.

    Threads that wait for each other sleep instead of spinning: beside evaluations, which have priority, spinning threads would
    use up the little time that a training gets.
    """
    kept = {name: value for name, value in environment.items() if name not in _SECRETS}
    return {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", **kept}


def _reason(path: Path, began: int, command: str) -> str:
    """Return why a command failed: its last `error:` line, without the end of a sentence."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(began, size - LOG_TAIL_BYTES))
        lines = file.read().decode("utf-8", "backslashreplace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1].rstrip(".")[:600]
    return f"'{command}' failed; {path.name} in the run folder has the reason"
