"""Files of a served bundle are swapped, damaged and exported anew under load: every number is the right one, or an error."""

import random
import shutil
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stimcore.bundle import open_bundle
from tests.serve.conftest import Start
from tests.serve.swaps import Swapper
from tests.serve.truth import Questioner, Tally, Truth, truth_of

ASKERS = 4
PAUSE_S = 0.3
"""Longest time between two changes of the files."""


@pytest.fixture(scope="module")
def variants(exported: Path) -> dict[str, Path]:
    """Two bundles of one experiment, either of which may stand at the place of the method `common`."""
    return {method: exported / "tiny" / method for method in ("common", "stimulative")}


@pytest.fixture(scope="module")
def truths(variants: Mapping[str, Path]) -> dict[str, Truth]:
    """The right answers of both, by fingerprint."""
    known = [truth_of(open_bundle(path)) for path in variants.values()]
    return {truth.fingerprint: truth for truth in known}


def ask_while_files_change(
    start: Start, folder: Path, variants: Mapping[str, Path], truths: Mapping[str, Truth], num_answers: int, engines: int
) -> Tally:
    """Ask from several clients while a thread changes the served files; return what was answered.

    With room for one engine, each question about another bundle than the last one opens it anew, from whatever the disk holds
    by then; with room for more, an engine that is open meets files of other bundles.
    """
    server = start(folder, limits=["watch_s=0.2", f"engines={engines}", "jobs_per_client=32"])
    swapper, tally, stop = Swapper(folder / "tiny" / "common", variants, seed=1), Tally(), threading.Event()
    moments = random.Random(2)

    def change() -> None:
        while not stop.is_set():
            for _ in range(moments.randrange(4)):
                swapper.damage()
                stop.wait(PAUSE_S * moments.random())
            swapper.export()
            stop.wait(2 * PAUSE_S * moments.random())

    def ask(seed: int) -> None:
        questioner = Questioner(server.url, truths, tally, seed)
        while tally.count() < num_answers:
            questioner.ask()
        questioner.close()

    changing = threading.Thread(target=change)
    changing.start()
    try:
        with ThreadPoolExecutor(ASKERS) as threads:
            list(threads.map(ask, range(ASKERS)))
    finally:
        stop.set()
        changing.join()
    assert server.live()
    assert not any(line.get("event") == "failed" for line in server.lines()), "no request may end in a traceback"
    assert server.metric("stim_worker_restarts") == 0, "files on disk end no worker"
    swapper.export("stimulative")
    questioner = Questioner(server.url, truths, Tally(), 99, ("common",))
    server.until(lambda: questioner.ask("inference") == "right" and len(questioner.tally.by_bundle) == 1, 10)
    return tally


def check(tally: Tally, num_answers: int) -> None:
    assert tally.wrong == []
    assert tally.count() >= num_answers
    assert tally.count("right") > num_answers / 4, (tally.outcomes, tally.codes)
    assert len(tally.by_bundle) == 2, "both bundles were served in turn"
    assert set(tally.codes) <= {"broken_bundle", "not_found", "not_stored", "job broken_bundle"}, tally.codes


@pytest.mark.slow
def test_numbers_belong_to_their_bundle_while_files_change(
    start: Start, own_exported: Path, variants: Mapping[str, Path], truths: Mapping[str, Truth]
) -> None:
    check(ask_while_files_change(start, own_exported, variants, truths, 100, 2), 100)


@pytest.mark.slow
@pytest.mark.parametrize("engines", [1, 3])
def test_two_thousand_numbers_belong_to_their_bundle_while_files_change(
    start: Start, own_exported: Path, variants: Mapping[str, Path], truths: Mapping[str, Truth], engines: int
) -> None:
    tally = ask_while_files_change(start, own_exported, variants, truths, 1000, engines)
    print(sorted(tally.outcomes.items()), sorted(tally.codes.items()))
    check(tally, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("limits", [(), ("watch_s=1000",)])
def test_a_re_exported_bundle_is_noticed_and_served_under_its_new_fingerprint(
    start: Start, own_exported: Path, variants: Mapping[str, Path], truths: Mapping[str, Truth], limits: tuple[str, ...]
) -> None:
    """Within ten seconds, also by a request that meets the new files when the server itself has not looked yet."""
    server = start(own_exported, limits=limits)
    swapper = Swapper(own_exported / "tiny" / "common", variants, seed=1)
    tally = Tally()
    questioner = Questioner(server.url, truths, tally, 1, ("common",))
    assert questioner.ask("inference") == "right"
    swapper.export("stimulative")
    began = time.monotonic()
    while len(tally.by_bundle) == 1:
        assert time.monotonic() - began < 10
        questioner.ask("inference")
        time.sleep(0.05)
    assert set(tally.codes) <= {"broken_bundle"}
    for _ in range(5):
        assert questioner.ask("job", "stream", "inference", "wall") == "right"
    assert tally.wrong == []
    (method, _) = server.client().catalogue().experiments[0].methods
    assert truths[method.fingerprint].seed == method.seed == 1


@pytest.mark.slow
def test_a_bundle_that_is_removed_or_added_is_noticed(start: Start, own_exported: Path, exported: Path) -> None:
    server = start(own_exported, limits=["watch_s=0.1"])
    client = server.client()

    def names() -> list[str]:
        return [method.name for method in client.catalogue().experiments[0].methods]

    shutil.rmtree(own_exported / "tiny" / "common")
    server.until(lambda: names() == ["stimulative"], 10)
    shutil.copytree(exported / "tiny" / "common", own_exported / "tiny" / "late")
    server.until(lambda: names() == ["stimulative", "late"], 10)
