"""Bad files under a running server: a broken bundle or run takes away itself alone, and every answer keeps its bounds.

Hashes are often made right again after a change: a damaged file is refused by its hash, whereas a program that writes odd
values writes their hash too.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from stimcore.bundle.experiment import Experiment
from tests.serve.fuzz import inputs
from tests.serve.fuzz.runner import LONG, SHORT, try_all
from tests.serve.fuzz.test_requests import check_answer, finish
from tests.serve.fuzz.watch import Meter, Others
from tests.serve.inference import body
from tests.serve.processes import Running

BUNDLE = Path("odd", "stimulative")
FILES = (
    "manifest.json",
    "../experiment.json",
    "sweep-ordered.json",
    "wall.json",
    "training.jsonl",
    "hits.npz",
    "statistics.npz",
)
METHOD = "/v1/experiments/odd/methods/stimulative"
ASKED = (
    *("/v1/catalogue", f"{METHOD}/sweeps/ordered", f"{METHOD}/networks", f"{METHOD}/training", f"{METHOD}/wall?spec=d1-1-1"),
    *(
        "/v1/experiments/odd/wall",
        "/v1/experiments/odd/samples?count=2",
        "/v1/experiments/odd/spec?text=d1-1-1&method=stimulative",
    ),
    *("/v2/models/odd.stimulative", "/v2/models/odd.stimulative/config", "/v2/models/stats"),
)
Change = tuple[str, bytes, bool]
"""File, its new content, and whether the hashes are made right."""


@st.composite
def changes(draw: st.DrawFn, bundle: Path) -> Change:
    """A file with other bytes, or a JSON file with other values."""
    name = draw(st.sampled_from(FILES))
    content = (bundle / name).read_bytes()
    if name.endswith(".json") and draw(st.integers(0, 3)):
        changed = draw(inputs.changed_json(json.loads(content)))
        content = json.dumps(changed).encode()
    else:
        content = draw(inputs.mutated([content, *inputs.corpus("json"), *inputs.corpus("gzip")]))
    return name, content, draw(st.booleans())


def make_hashes_right(bundle: Path, name: str) -> None:
    """Write the hash of a changed file where it belongs; do nothing if the files do not let that be done."""
    path = bundle / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        if name == "../experiment.json":
            value = json.loads((bundle / name).read_bytes())
            manifest["experiment_sha256"] = Experiment.from_dict(bundle.parent, value).sha256
        elif name != "manifest.json":
            manifest["hashes"][name] = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    except Exception:  # whatever the changed file holds makes any error; it then stays as it is
        return
    path.write_text(json.dumps(manifest), encoding="utf-8")


def ask_about(server: Running, num_bytes: int, what: str) -> None:
    """Let the server scan, and ask everything about the changed bundle, within the bounds for a request of so many bytes."""
    with Meter(server) as meter:
        check_answer(server.http.post("/v1/rescan"), what)
    meter.check(num_bytes, f"rescan: {what}")
    catalogue = server.http.get("/v1/catalogue").json()
    assert "tiny" in [experiment["name"] for experiment in catalogue["experiments"]], what
    for path in ASKED:
        with Meter(server) as meter:
            check_answer(server.http.get(path), f"{path}: {what}")
        meter.check(num_bytes, f"{path}: {what}")
    with Meter(server) as meter:
        answer = server.http.post("/v2/models/odd.stimulative/infer", content=json.dumps(body(parameters={"spec": "d1-2-1"})))
        check_answer(answer, f"inference: {what}")
    meter.check(num_bytes, f"inference: {what}")


def fuzz_bundles(server: Running, folder: Path, num: int, control: Running) -> None:
    bundle = folder / "exported" / BUNDLE
    kept = {path: path.read_bytes() for path in (*bundle.iterdir(), bundle.parent / "experiment.json") if path.is_file()}

    def check(change: Change) -> None:
        name, content, right = change
        (bundle / name).write_bytes(content)
        if right:
            make_hashes_right(bundle, name)
        try:
            ask_about(server, len(content), f"{name} ({'right' if right else 'wrong'} hash): {content[:2000]!r}")
        finally:
            for path, original in kept.items():
                path.write_bytes(original)

    with Others(server, control) as others:
        try_all(changes(bundle), check, num)
    assert server.http.post("/v1/rescan").json()["problems"] == []
    finish(server, others)


@pytest.mark.slow
def test_odd_files_of_a_bundle_hurt_no_other(target: Running, server: Running, folder: Path) -> None:
    fuzz_bundles(target, folder, SHORT, server)


@pytest.mark.slow
def test_hundreds_of_odd_files_of_a_bundle_hurt_no_other(target: Running, server: Running, folder: Path) -> None:
    fuzz_bundles(target, folder, LONG // 2, server)


@st.composite
def run_files(draw: st.DrawFn, run: Path) -> tuple[str, bytes]:
    """A changed file of a run folder."""
    name = draw(st.sampled_from(("run.json", "training.jsonl")))
    content = (run / name).read_bytes()
    if draw(st.booleans()):
        lines = [
            draw(inputs.changed_json(json.loads(line))) for line in (content.splitlines() if name != "run.json" else [content])
        ]
        return name, b"".join(json.dumps(line).encode() + b"\n" for line in lines * draw(st.sampled_from((1, 1, 2000))))
    return name, draw(inputs.mutated([content, *inputs.corpus("json")]))


def fuzz_runs(server: Running, folder: Path, num: int, control: Running) -> None:
    run = folder / "runs" / "tiny" / "common-0"
    kept = {name: (run / name).read_bytes() for name in ("run.json", "training.jsonl")}

    def check(changed: tuple[str, bytes]) -> None:
        name, content = changed
        (run / name).write_bytes(content)
        try:
            with Meter(server) as meter:
                answer = server.http.get("/v1/runs")
            check_answer(answer, repr(changed)[:2000])
            assert "tiny/stimulative-1" in [info["name"] for info in answer.json()], repr(changed)[:2000]
            meter.check(len(content), repr(changed)[:2000])
        finally:
            (run / name).write_bytes(kept[name])

    with Others(server, control) as others:
        try_all(run_files(run), check, num)
    finish(server, others)


def test_odd_run_folders_hurt_no_other(target: Running, server: Running, folder: Path) -> None:
    fuzz_runs(target, folder, 2 * SHORT, server)


@pytest.mark.slow
def test_hundreds_of_odd_run_folders_hurt_no_other(target: Running, server: Running, folder: Path) -> None:
    fuzz_runs(target, folder, LONG, server)
