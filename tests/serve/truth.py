"""Questions whose right answers are known for every bundle, and the check of what a server answers to them.

A bundle's right answers come from its engine, opened in this process before anybody touches the files. The server names the
fingerprint of the bundle that an answer is about; an answer with another number than this bundle's is wrong.
"""

import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import numpy as np
from numpy.typing import NDArray

from stimcore.bundle import Answers, Bundle
from stimcore.engine.engine import Engine
from stimcore.serve.client.client import parse_events
from stimcore.serve.repository.describe import safe_json
from stimcore.subnets.families import KINDS
from tests.serve.inference import binary, body, tensor

SPECS = ("main", "d1-1-1", "d1-2-3", "1-3.4-5-6.7-8-9", "2-1-3.4-6-5.7-9-8")
NUM_IMAGES = 4
"""Images of one inference."""
POLL_S = 0.03
Verdict = Literal["right", "wrong", "error"]
HEADER = "X-Stimcore-Bundle"


@dataclass(frozen=True)
class Truth:
    """The right answers of one bundle.

    Attributes:
        fingerprint: The bundle's.
        seed: Seed of its training, which the catalogue names.
        images: Normalised images of every inference, `[NUM_IMAGES, C, H, W]`.
        logits: Spec and whether it is re-calibrated -> logits of these images.
        probabilities: Spec -> probabilities of the first evaluation image.
        hits: Long form of a spec -> which evaluation images are classified correctly, re-calibrated.
        long: Spec -> its long form.
        sweeps: Family -> stored sweep, None where none is stored.
        wall: Long form of a spec -> stored answers on the images of the picture wall.
        accuracies: Listed file -> accuracy in percent.
    """

    fingerprint: str
    seed: int
    images: NDArray[np.float32]
    logits: Mapping[tuple[str, bool], NDArray[np.float32]]
    probabilities: Mapping[str, Sequence[float]]
    hits: Mapping[str, NDArray[np.bool_]]
    long: Mapping[str, str]
    sweeps: Mapping[str, Any]
    wall: Mapping[str, Answers]
    accuracies: Mapping[str, float]


def truth_of(bundle: Bundle) -> Truth:
    """Compute the right answers of a bundle."""
    engine = Engine(bundle, device="cpu", threads=1)
    specs = {text: bundle.topology.parse(text) for text in SPECS}
    pixels, _ = bundle.experiment.evaluation
    images = bundle.experiment.normalise(pixels[:NUM_IMAGES])
    logits = {
        (text, mode): engine.logits(spec, images, recalibrate=mode) for text, spec in specs.items() for mode in (True, False)
    }
    (*_, last) = engine.evaluate(list(specs.values()), collect_hits=True)
    assert bundle.wall is not None
    return Truth(
        fingerprint=bundle.fingerprint,
        seed=bundle.manifest.seed,
        images=images,
        logits=logits,
        probabilities={text: _softmax(logits[text, True][0]) for text in specs},
        hits={str(spec): hits for spec, hits in last.hits.items()},
        long={text: str(spec) for text, spec in specs.items()},
        sweeps={kind: safe_json(bundle.sweep(kind)) for kind in KINDS},
        wall={str(spec): answers for spec, answers in bundle.wall.states.items()},
        accuracies={name: entry.accuracy_pct for name, entry in bundle.manifest.networks.items()},
    )


def _softmax(logits: NDArray[np.float32]) -> list[float]:
    exponentials = np.exp(logits.astype(np.float64) - logits.max())
    return [float(value) for value in exponentials / exponentials.sum()]


@dataclass
class Tally:
    """What a server has answered.

    Attributes:
        outcomes: Kind of question and verdict -> number of answers.
        wrong: What was wrong, for a report.
        codes: Code of an error -> number of answers.
        by_bundle: Fingerprint -> number of right answers.
    """

    outcomes: Counter[tuple[str, Verdict]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    by_bundle: Counter[str] = field(default_factory=Counter)

    def count(self, *outcomes: Verdict) -> int:
        """Return the number of answers with one of these outcomes, or of all answers."""
        items = list(self.outcomes.items())  # other threads may add some meanwhile
        return sum(number for (_, verdict), number in items if not outcomes or verdict in outcomes)

    def add(self, other: "Tally") -> None:
        """Add the answers of another tally."""
        self.outcomes.update(other.outcomes)
        self.wrong += other.wrong
        self.codes.update(other.codes)
        self.by_bundle.update(other.by_bundle)


class Wrong(Exception):
    """An answer that is not the bundle's."""


class Questioner:
    """Asks a server and checks its answers.

    Args:
        url: Address of the server.
        truths: Fingerprint -> right answers, of every bundle that may be served.
        tally: Where answers are counted; several questioners may share one.
        seed: Seed of the questions.
        methods: Methods of the experiment `tiny` to ask for.
    """

    def __init__(
        self, url: str, truths: Mapping[str, Truth], tally: Tally, seed: int, methods: Sequence[str] = ("common", "stimulative")
    ) -> None:
        self.http = httpx.Client(base_url=url, timeout=60, trust_env=False, headers={"X-Stimcore-Client": f"asker-{seed}"})
        self._truths, self.tally, self._methods = truths, tally, methods
        self._random = random.Random(seed)
        self._questions: dict[str, Callable[[], Truth | None]] = {
            "inference": self._infer,
            "job": self._job,
            "stream": self._stream,
            "sweep": self._sweep,
            "wall": self._wall,
            "classification": self._classify,
            "networks": self._networks,
        }

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def ask(self, *kinds: str) -> Verdict:
        """Ask a question of one of these kinds, or of any; count and return the verdict."""
        kind = self._random.choice(kinds or tuple(self._questions))
        try:
            truth = self._questions[kind]()
            verdict: Verdict = "error" if truth is None else "right"
            if truth is not None:
                self.tally.by_bundle[truth.fingerprint] += 1
        except Wrong as reason:
            verdict = "wrong"
            self.tally.wrong.append(f"{kind}: {reason}")
        except httpx.TransportError as reason:  # a server that is being replaced: no number came
            verdict = "error"
            self.tally.codes[type(reason).__name__] += 1
        self.tally.outcomes[kind, verdict] += 1
        return verdict

    def _base(self) -> str:
        return f"/v1/experiments/tiny/methods/{self._random.choice(self._methods)}"

    def _answered(self, answer: httpx.Response) -> Truth | None:
        """Return the right answers for a response that has an answer; None for a proper refusal."""
        if answer.status_code >= 400:
            self._check_refusal(answer)
            return None
        return self._truth(answer.headers.get(HEADER, "no fingerprint"))

    def _truth(self, fingerprint: str) -> Truth:
        if fingerprint not in self._truths:
            raise Wrong(f"the answer is of '{fingerprint}', which was never exported")
        return self._truths[fingerprint]

    def _check_refusal(self, answer: httpx.Response) -> None:
        value = answer.json()
        if set(value) != {"error", "code"} or answer.status_code == 500:
            raise Wrong(f"{answer.status_code} {answer.text[:200]}")
        self.tally.codes[value["code"]] += 1

    def _infer(self) -> Truth | None:
        text, recalibrate = self._random.choice(SPECS), self._random.random() < 0.7
        images = next(iter(self._truths.values())).images
        inputs = [tensor(data=..., shape=list(images.shape), parameters={"binary_data_size": images.nbytes})]
        asked = body(inputs=inputs, parameters={"spec": text, "recalibrate": recalibrate})
        method = self._random.choice(self._methods)
        answer = self.http.post(f"/v2/models/tiny.{method}/infer", **binary(asked, images.tobytes()))
        truth = self._answered(answer)
        if truth is not None:
            output = answer.json()["outputs"][0]
            _check_close(np.reshape(output["data"], output["shape"]), truth.logits[text, recalibrate], text)
        return truth

    def _submit(self) -> dict[str, Any] | None:
        """Submit an evaluation of two sub-networks; return the job, None when it was refused."""
        specs = self._random.sample(SPECS, 2)
        value = {
            "experiment": "tiny",
            "method": self._random.choice(self._methods),
            "specs": specs,
            "fresh": self._random.random() < 0.5,
            "max_images": self._random.choice((None, 40, 90)),
        }
        answer = self.http.post("/v1/jobs", content=json.dumps(value))
        if answer.status_code >= 400:
            self._check_refusal(answer)
            return None
        return dict(answer.json())

    def _job(self) -> Truth | None:
        job = self._submit()
        while job is not None and job["state"] in ("queued", "running"):
            time.sleep(POLL_S)
            answer = self.http.get(f"/v1/jobs/{job['id']}", params={})
            if answer.status_code >= 400:
                self._check_refusal(answer)
                return None
            job = answer.json()
            if job["results"]:
                self._check_results(job, self._truth(job["fingerprint"]))
        if job is None or job["state"] != "done":
            self._failed(job and job["error"])
            return None
        truth = self._truth(job["fingerprint"])
        self._check_results(job, truth)
        return truth

    def _stream(self) -> Truth | None:
        job = self._submit()
        if job is None:
            return None
        truth, state = self._truth(job["fingerprint"]), ""
        with self.http.stream("GET", f"/v1/jobs/{job['id']}/events") as answer:
            if answer.status_code >= 400:
                answer.read()
                self._check_refusal(answer)
                return None
            for event in parse_events(answer.iter_lines()):
                if event.type == "result" and event.data["results"]:
                    self._check_results(event.data, truth)
                state = event.data.get("state", state)
                if event.type == "error":
                    self._failed(event.data)
        return truth if state == "done" else None

    def _failed(self, error: Mapping[str, str] | None) -> None:
        if error is not None:
            self.tally.codes[f"job {error['code']}"] += 1

    def _check_results(self, value: Mapping[str, Any], truth: Truth) -> None:
        """Compare results on the images so far, the main network's included."""
        for row in [value["main"], *value["results"]]:
            expected = int(truth.hits[row["spec"]][: row["images"]].sum())
            if row["correct"] != expected or not math.isclose(
                row["accuracy_pct"], 100 * expected / row["images"], abs_tol=1e-6
            ):
                raise Wrong(f"{row['spec']} has {row['correct']} of {row['images']}, {row['accuracy_pct']} %, not {expected}")

    def _sweep(self) -> Truth | None:
        kind = self._random.choice(KINDS)
        answer = self.http.get(f"{self._base()}/sweeps/{kind}")
        truth = self._answered(answer)
        if truth is not None and answer.json() != truth.sweeps[kind]:
            raise Wrong(f"sweep {kind}: {answer.text[:200]}")
        return truth

    def _wall(self) -> Truth | None:
        text = self._random.choice(SPECS)
        answer = self.http.get(f"{self._base()}/wall", params={"spec": text})
        truth = self._answered(answer)
        if truth is None:
            return None
        value, long = answer.json(), truth.long[text]
        if value["spec"] != long or (long in truth.wall) is not (value["source"] == "stored"):
            raise Wrong(f"wall of {text}: {value['spec']}, {value['source']}")
        if long in truth.wall and tuple(value["classes"]) != truth.wall[long].classes:
            raise Wrong(f"wall of {text}: {value['classes']}")
        return truth

    def _classify(self) -> Truth | None:
        specs = self._random.sample(SPECS, 2)
        asked = {"method": self._random.choice(self._methods), "specs": specs, "index": 0}
        answer = self.http.post("/v1/experiments/tiny/classify", content=json.dumps(asked))
        truth = self._answered(answer)
        if truth is not None:
            for text, row in zip(specs, answer.json()["results"], strict=True):
                _check_close(np.array(row["probabilities"]), np.array(truth.probabilities[text]), text)
        return truth

    def _networks(self) -> Truth | None:
        answer = self.http.get(f"{self._base()}/networks")
        truth = self._answered(answer)
        if truth is not None:
            given = {row["file"]: row["accuracy_pct"] for row in answer.json()["networks"]}
            if given != truth.accuracies:
                raise Wrong(f"networks: {given}")
        return truth


def _check_close(given: NDArray[Any], expected: NDArray[Any], what: str) -> None:
    """Refuse numbers that differ by more than rounding: onnxruntime may sum batches of other sizes in another order."""
    if given.shape != expected.shape or not np.allclose(given, expected, rtol=1e-4, atol=1e-4):
        raise Wrong(f"{what}: {given.ravel()[:5]} instead of {expected.ravel()[:5]}")
