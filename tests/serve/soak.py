"""`python -m tests.serve.soak`: a server under mixed load, while a bundle is exported anew and workers are killed.

Every answer is compared with what the engine gives for the bundle that the answer names. The exit code is 0 only if no answer
was wrong, memory and file descriptors stayed within bounds, and nothing but the kills ended a worker.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import psutil

from stimcore.bundle import open_bundle
from tests.serve.exported import export
from tests.serve.fuzz import inputs
from tests.serve.processes import Running
from tests.serve.swaps import Swapper
from tests.serve.truth import Questioner, Tally, Truth, truth_of

WARM_UP_S = 300.0
"""Growth is counted from here, or from a third of a shorter run."""
GROWTH_BYTES = 50 << 20
EXPORT_S, KILL_S, SAMPLE_S = 60.0, 120.0, 5.0
"""Seconds between two exports, two kills of all workers, and two looks at memory and file descriptors."""
NOTICE_S, RECOVER_S = 10.0, 5.0
"""Time to serve a new export, and to answer again after a worker was killed."""
NUM_FDS = 256
"""File descriptors of a process at most: one for each of 30 clients' connections, and what a process has of its own."""
THINK_S = 1.0
"""Longest time between two questions of a client."""
PAGES = (
    *(
        "/v1/catalogue",
        "/v1/status",
        "/v1/runs",
        "/v1/jobs",
        "/v1/experiments/tiny/samples?count=6",
        "/v1/experiments/tiny/wall",
    ),
    *("/v2/models/stats", "/v2/models/tiny.common", "/metrics", "/openapi.json", "/v2/health/ready"),
    "/v1/experiments/tiny/spec?text=d1-2-3&method=common",
)
ROLES = ("inference", "inference", "inference", "job", "job", "stream", "page", "page", "bad input", "any")
"""What clients do; they take them in turn."""


@dataclass
class Seen:
    """Highest values of a process.

    Attributes:
        early_bytes: Memory during the warm-up.
        late_bytes: Memory after it.
        fds: File descriptors.
    """

    early_bytes: int = 0
    late_bytes: int = 0
    fds: int = 0

    @property
    def growth_bytes(self) -> int:
        """What the memory after the warm-up has above that during it."""
        return max(0, self.late_bytes - self.early_bytes)


@dataclass
class Outcome:
    """What a run has shown.

    Attributes:
        tally: All answers.
        processes: `front` and `worker` -> highest values.
        exports: Exports during the run.
        kills: Kills of all workers during the run.
        notice_s: Seconds from each export to the first answer of the new bundle.
        recover_s: Seconds from each kill to the next right answer.
        restarts: Workers that ended, as the server counts them.
        tracebacks: Requests that ended in one.
    """

    tally: Tally = field(default_factory=Tally)
    processes: dict[str, Seen] = field(default_factory=lambda: {"front": Seen(), "worker": Seen()})
    exports: int = 0
    kills: int = 0
    notice_s: list[float] = field(default_factory=list)
    recover_s: list[float] = field(default_factory=list)
    restarts: int = 0
    tracebacks: int = 0

    def complaints(self) -> list[str]:
        """Return a sentence for everything that is not as it should be."""
        problems = [f"wrong: {text}" for text in self.tally.wrong[:10]]
        for name, seen in self.processes.items():
            if seen.growth_bytes > GROWTH_BYTES:
                problems.append(f"the {name}'s memory grew by {seen.growth_bytes >> 20} MiB")
            if seen.fds > NUM_FDS:
                problems.append(f"the {name} had {seen.fds} file descriptors")
        if max(self.notice_s, default=0.0) > NOTICE_S:
            problems.append(f"an export was served after {max(self.notice_s):.1f} s only")
        if max(self.recover_s, default=0.0) > RECOVER_S:
            problems.append(f"a killed worker was replaced after {max(self.recover_s):.1f} s only")
        if self.restarts != self.kills:
            problems.append(f"{self.restarts} workers ended, {self.kills} were killed")
        if self.tracebacks:
            problems.append(f"{self.tracebacks} requests ended in a traceback")
        if self.tally.count("right") < self.tally.count() / 2:
            problems.append("less than half of the answers are numbers")
        return problems

    def table(self, minutes: float, clients: int) -> str:
        """Return everything as one table in Markdown."""
        rows = ["| what | value |", "| --- | --- |", f"| time, clients | {minutes:g} minutes, {clients} clients |"]
        rows.append(f"| answers | {self.tally.count():,}, of these {self.tally.count('wrong')} wrong |")
        kinds = Counter[str]()
        for (kind, _), number in self.tally.outcomes.items():
            kinds[kind] += number
        for kind, number in sorted(kinds.items()):
            right, error = (self.tally.outcomes[kind, verdict] for verdict in ("right", "error"))  # type: ignore[index]
            rows.append(f"| {kind} | {number:,}: {right:,} right, {error:,} refused |")
        rows.append(f"| exports, served after | {self.exports}, at most {max(self.notice_s, default=0):.1f} s |")
        rows.append(f"| workers killed, answers again after | {self.kills}, at most {max(self.recover_s, default=0):.1f} s |")
        for name, seen in self.processes.items():
            early, late, growth = (value >> 20 for value in (seen.early_bytes, seen.late_bytes, seen.growth_bytes))
            rows.append(f"| {name}: memory in the warm-up, later, growth | {early}, {late}, {growth} MiB |")
            rows.append(f"| {name}: file descriptors | at most {seen.fds} |")
        rows.append(f"| refusals by code | {', '.join(f'{code} {n:,}' for code, n in sorted(self.tally.codes.items()))} |")
        return "\n".join(rows)


class Soak:
    """One run.

    Args:
        server: The server.
        swapper: Exports the bundle that is served as `common`.
        truths: Fingerprint -> right answers.
        minutes: Length.
        clients: Clients.
    """

    def __init__(self, server: Running, swapper: Swapper, truths: Mapping[str, Truth], minutes: float, clients: int) -> None:
        self._server, self._swapper, self._truths = server, swapper, truths
        self._seconds, self._clients = 60 * minutes, clients
        self._stop = threading.Event()
        self._tallies = [Tally() for _ in range(clients)]
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Run until the time is over."""
        threads = [threading.Thread(target=self._use, args=(number,)) for number in range(self._clients)]
        threads += [threading.Thread(target=work) for work in (self._export, self._kill, self._sample)]
        for thread in threads:
            thread.start()
        self._stop.wait(self._seconds)
        self._stop.set()
        for thread in threads:
            thread.join()
        outcome = self.outcome
        for tally in self._tallies:
            outcome.tally.add(tally)
        outcome.restarts = int(self._server.metric("stim_worker_restarts"))
        outcome.tracebacks = sum(line.get("event") == "failed" for line in self._server.lines())
        return outcome

    def _use(self, number: int) -> None:
        """Be a client."""
        role, tally, chance = ROLES[number % len(ROLES)], self._tallies[number], random.Random(number)
        questioner = Questioner(self._server.url, self._truths, tally, number)
        with httpx.Client(base_url=self._server.url, timeout=60, trust_env=False) as http:
            while not self._stop.wait(THINK_S * chance.random()):
                try:
                    if role == "page":
                        self._look(http, chance, tally)
                    elif role == "bad input":
                        self._annoy(http, chance, tally)
                    else:
                        questioner.ask(*() if role == "any" else (role,))
                except httpx.TransportError as reason:
                    tally.outcomes[role, "wrong"] += 1
                    tally.wrong.append(f"{role}: {reason!r}")
        questioner.close()

    def _look(self, http: httpx.Client, chance: random.Random, tally: Tally) -> None:
        """Ask for what a page of the dashboard asks for."""
        path = chance.choice(PAGES)
        answer = http.get(path)
        verdict = "right" if answer.status_code == 200 or (path.endswith("ready") and answer.status_code == 503) else "wrong"
        tally.outcomes["page", verdict] += 1  # type: ignore[index]
        if verdict == "wrong":
            tally.wrong.append(f"{path}: {answer.status_code} {answer.text[:200]}")

    def _annoy(self, http: httpx.Client, chance: random.Random, tally: Tally) -> None:
        """Send something from the corpus, with some of its bytes changed."""
        kind = chance.choice(("json", "gzip", "pictures"))
        data = bytearray(chance.choice(inputs.corpus(kind)))
        for _ in range(chance.randrange(3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if kind == "pictures":
            method, path, headers, content = inputs.classification(bytes(data))
        else:
            path, _ = chance.choice(inputs.BODIES[:3])
            method, headers, content = "POST", {"Content-Encoding": "gzip"} if kind == "gzip" else {}, bytes(data)
        answer = http.request(method, path, headers=headers, content=content)
        fine = answer.status_code < 500 or answer.status_code in (503, 504)
        tally.outcomes["bad input", "error" if fine else "wrong"] += 1
        if not fine:
            tally.wrong.append(f"{path}: {answer.status_code} {answer.text[:200]}")

    def _export(self) -> None:
        """Export the bundle anew again and again, and measure until the new one is served."""
        while not self._stop.wait(EXPORT_S):
            name = "stimulative" if self._swapper.current == "common" else "common"
            seed = ("common", "stimulative").index(name)
            self._swapper.export(name)
            self.outcome.exports += 1
            began = time.monotonic()
            wanted = next(key for key, truth in self._truths.items() if truth.seed == seed)
            self.outcome.notice_s.append(self._until(partial(_has_seen, wanted), began))

    def _kill(self) -> None:
        """Kill the workers again and again, and measure until the server answers."""
        while not self._stop.wait(KILL_S):
            for worker in self._server.workers():
                worker.kill()
                self.outcome.kills += 1
            self.outcome.recover_s.append(self._until(lambda asker: bool(asker.tally.by_bundle), time.monotonic()))

    def _until(self, holds: Callable[[Questioner], bool], began: float) -> float:
        """Ask for inferences until something holds for what was answered; return the seconds since `began`."""
        asker = Questioner(self._server.url, self._truths, Tally(), 1000, ("common",))
        while not holds(asker) and not self._stop.wait(0.1):
            asker.ask("inference")
        asker.close()
        self.outcome.tally.wrong += asker.tally.wrong
        return time.monotonic() - began

    def _sample(self) -> None:
        """Note memory and file descriptors again and again."""
        began, warm_up_s = time.monotonic(), min(WARM_UP_S, self._seconds / 3)
        while not self._stop.wait(SAMPLE_S):
            late = time.monotonic() - began > warm_up_s
            for name, processes in {
                "front": [psutil.Process(self._server.process.pid)],
                "worker": self._server.workers(),
            }.items():
                seen = self.outcome.processes[name]
                for process in processes:
                    try:
                        memory, fds = process.memory_info().rss, process.num_fds()
                    except psutil.Error:
                        continue  # it was killed at this moment
                    seen.fds = max(seen.fds, fds)
                    if late:
                        seen.late_bytes = max(seen.late_bytes, memory)
                    else:
                        seen.early_bytes = max(seen.early_bytes, memory)


def _has_seen(fingerprint: str, asker: Questioner) -> bool:
    return fingerprint in asker.tally.by_bundle


def main() -> int:
    """Run, print the table, and return the exit code."""
    line = argparse.ArgumentParser(prog="python -m tests.serve.soak", description=__doc__.partition(":")[2].strip())
    line.add_argument("--minutes", type=float, default=30)
    line.add_argument("--clients", type=int, default=30)
    options = line.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        root = Path(name)
        folder = export(root / "exported")
        variants = {
            method: Path(shutil.copytree(folder / "tiny" / method, root / method)) for method in ("common", "stimulative")
        }
        bundles = [open_bundle(folder / "tiny" / method) for method in variants]
        truths = {bundle.fingerprint: truth_of(bundle) for bundle in bundles}
        words = ["--runs", str(root / "runs-of-exported")]
        with Running(folder, root / "server.log", words=words) as server:
            swapper = Swapper(folder / "tiny" / "common", variants, seed=0)
            outcome = Soak(server, swapper, truths, options.minutes, options.clients).run()
            log = (root / "server.log").read_text(encoding="utf-8")
    print(outcome.table(options.minutes, options.clients))
    complaints = outcome.complaints()
    for complaint in complaints:
        print(f"failed: {complaint}", file=sys.stderr)
    if complaints:
        kept = Path(tempfile.gettempdir(), f"soak-{os.getpid()}.log")
        kept.write_text(log, encoding="utf-8")
        print(f"the server's log is in {kept}", file=sys.stderr)
    else:
        print("passed")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
