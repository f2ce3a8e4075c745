"""Dashboard and published page in Chromium, beside an empty Streamlit page; 30 visitors, and a lecture of 120.

Every duration is measured inside the page with the browser's clock, except those of many visitors, who are websocket clients.
Server, browser and visitors share the machine, so that at least two idle cores are needed.
"""

import functools
import math
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch

from stimcore import cli
from stimcore.bench.check import at_least
from stimcore.bench.choices import PAGE_TARGETS_MS, WATCHED_SHARE
from stimcore.bench.page.browser import ARRIVAL, CLICK, FIRST, FLAGS, Program, find_chromium, serving
from stimcore.bench.page.run import run_in_progress
from stimcore.errors import Unavailable, UsageError
from stimcore.publish.site import Settings as SiteSettings
from stimcore.publish.site import build_site
from stimcore.runs.machine import describe

if TYPE_CHECKING:  # browsers are driven by a package that only the checks need
    from playwright.sync_api import Browser, Page

REMOVABLE = (1, 2, 3, 5, 6, 8, 9)
"""The blocks of ResNet-20 that can be deleted."""
WHOLE, SHIPPED, SWAPPED = "1-2-3.4-5-6.7-8-9", "1-2-3.4-x5-6.7-8-9", "1-2-3.4-6-5.7-8-9"
OTHERS = (1, 2, 3, 8, 9)
"""`SWAPPED` without any of these blocks is in no stored family and has to be measured."""
CLASSROOM = "x1-2-3.4-6-5.7-9-8"
"""A state that is in no stored family either, and that the walk over `OTHERS` does not meet."""
CROWDS = {1: "1-x2-3.4-6-5.7-9-8", 10: "1-2-x3.4-6-5.7-9-8", 100: "1-x2-x3.4-6-5.7-9-8"}
"""Visitors -> another state of that kind, which they follow together: how cost grows with their number."""
PATIENCE_MS = 300_000
"""A page that needs longer is given up: the machine is too busy for any figure."""
READING_MS = 6000
"""How long a visitor reads a page before the first click; the server warms up meanwhile."""
EMPTY = 'import streamlit as st\n\nst.set_page_config(layout="wide")\nst.write("This page is empty.")\n'
EMPTY_SEEN = """() => { const look = () => {
  if (document.body?.innerText.includes('This page is empty.')) window.seen = performance.now();
  else setTimeout(look, 10);
}; document.addEventListener('DOMContentLoaded', look); }"""
LECTURE_ADDRESS = "http://192.0.2.1:8501"
"""An address for examples, which makes the page name the number of guesses; nobody opens it."""
PHONE = {"offline": False, "latency": 150, "downloadThroughput": 1.6e6 / 8, "uploadThroughput": 750e3 / 8}
"""A slow 4G connection as Lighthouse has it: 150 ms, 1.6 Mbit/s."""
PHONE_SLOWDOWN = 4
"""How many times slower a phone's processor is taken to be."""
SHOWN = """() => { const look = () => {
  if (document.body?.dataset.ready) window.seen = performance.now(); else setTimeout(look, 10);
}; document.addEventListener('DOMContentLoaded', look); }"""

LARGEST_MIB = 2048
WATCH_S = 30.0
"""How long visitors watch a run in progress."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured; the options of the command say what each field is."""

    app: Path
    exported: Path
    experiment: str
    rounds: int
    visitors: int
    lecture: int
    join_s: float


@dataclass
class Seen:
    """Durations in milliseconds, by name."""

    values_ms: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value_ms: float | None) -> None:
        """Add one duration.

        Raises:
            Unavailable: It never came.
        """
        if value_ms is None:
            raise Unavailable(f"{name.replace('_', ' ')} never came", todo="Run it on an idle machine.")
        self.values_ms.setdefault(name, []).append(value_ms)


def run(settings: Settings) -> dict[str, Any]:
    """Measure, and return the report.

    Raises:
        UsageError: A number is out of range, or the experiment is not there.
        Unavailable: Chromium, or a package that drives it, is missing.
    """
    at_least(settings, rounds=1, visitors=1, lecture=1)
    if settings.rounds > 2 ** len(OTHERS) - 1:
        raise UsageError(f"--rounds {settings.rounds}", allowed=f"1 to {2 ** len(OTHERS) - 1}")
    folder = settings.exported.resolve() / settings.experiment
    if not (folder / "experiment.json").is_file():
        raise UsageError(f"there is no experiment {folder}", todo="'python -m stimcore.export' makes one.")
    if not settings.app.is_file():
        raise UsageError(f"there is no program {settings.app}", todo="Run it in a checkout, or name the dashboard's main.py.")
    for package in ("streamlit", "playwright", "websockets"):
        if not cli.installed(package):
            raise Unavailable(f"this needs {package}", todo="Run: python -m pip install -r requirements-dev.txt")
    chromium = find_chromium()
    if chromium is None:
        raise Unavailable("there is no Chromium", todo="Install it with 'apt-get install chromium', or install Google Chrome.")
    from playwright.sync_api import Error
    from websockets.exceptions import WebSocketException

    try:
        seen, many = _measure(settings, folder, chromium)
    except (Error, TimeoutError, WebSocketException) as error:
        first = next(iter(str(error).splitlines()), "no answer in time")
        raise Unavailable(f"a page never came: {first}", todo="Run it on an idle machine.") from error
    return _report(settings, seen, many)


def _measure(settings: Settings, experiment: Path, chromium: str) -> tuple[Seen, dict[str, Any]]:
    """Measure everything, one after the other; return the durations, and what the visitors and the lecture saw."""
    from playwright.sync_api import sync_playwright

    seen, script = Seen(), settings.app.resolve()
    variables = {"STIMCORE_EXPORTED": str(settings.exported.resolve()), "STIMCORE_ADDRESS": LECTURE_ADDRESS}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (scratch / "empty.py").write_text(EMPTY, encoding="utf-8")
        variables["STIMCORE_RUNS"] = str(scratch / "runs")
        root = script.parents[1]
        empty = stack.enter_context(serving(scratch / "empty.py", root, {}))
        served = stack.enter_context(serving(script, root, variables))
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        query = f"experiment={settings.experiment}"
        _visits(browser, seen, empty.url, f"{served.url}/?{query}", settings.rounds)
        _clicks(browser, seen, f"{served.url}/?{query}", settings.rounds)
        many = _many(seen, served, query, settings) | _watched(served, query, settings, Path(variables["STIMCORE_RUNS"]))
        _published(browser, seen, experiment, scratch / "site", settings.rounds)
        browser.close()
    return seen, many


@contextmanager
def _tab(browser: "Browser", script: str = "") -> "Iterator[Page]":
    """Open a tab of a new visitor, in whose pages a script starts to look."""
    context = browser.new_context(viewport={"width": 1280, "height": 720}, reduced_motion="reduce", locale="en-US")
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    if script:
        page.add_init_script(f"({script})()")
    try:
        yield page
    finally:
        context.close()


def _visits(browser: "Browser", seen: Seen, empty: str, story: str, rounds: int) -> None:
    """Measure an empty page, the story and a shared link in turn, each in a new browser context with nothing cached."""
    for number in range(rounds + 1):
        with _tab(browser, EMPTY_SEEN) as page:
            page.goto(empty)
            page.wait_for_function("window.seen")
            nothing = float(page.evaluate("window.seen"))
        arrivals = {}
        for name, address in (("first_visit", story), ("shared_link", f"{story}&spec={SHIPPED}")):
            with _tab(browser, ARRIVAL) as page:
                page.goto(address)
                page.wait_for_function("window.arrival.number && window.arrival.wall")
                arrivals[name] = page.evaluate("window.arrival")
        if not number:
            continue  # servers and browser warm up
        seen.add("empty_page", nothing)
        for name, arrival in arrivals.items():
            seen.add(f"{name}_over_empty", arrival["number"] - nothing)
        wall = arrivals["shared_link"]
        seen.add("wall_after_stored_number", max(0.0, wall["wall"] - wall["number"]))


def _clicks(browser: "Browser", seen: Seen, story: str, rounds: int) -> None:
    """Measure clicks on stored states, and a walk through states that nobody has asked for, one block at a time."""
    with _tab(browser) as page:
        _settled(page, f"{story}&spec={WHOLE}")
        for number in range(rounds):
            picture, address = page.evaluate(CLICK, REMOVABLE[number % len(REMOVABLE)])
            seen.add("click_to_picture", picture)
            seen.add("click_to_address", address)
            page.wait_for_timeout(400)
    with _tab(browser) as page:
        _settled(page, f"{story}&spec={SWAPPED}")
        page.wait_for_timeout(READING_MS)
        for number in range(1, rounds + 1):
            seen_ms = page.evaluate(FIRST, OTHERS[(number & -number).bit_length() - 1])
            seen.add("click_to_first_number", seen_ms["number"])
            seen.add("click_to_all_images", seen_ms["all"])
            seen.add("wall_after_measured_number", seen_ms["wall"] - seen_ms["all"] if seen_ms["wall"] else None)


def _settled(page: "Page", address: str) -> None:
    page.goto(address)
    page.locator(".net button").first.wait_for()
    page.get_by_text("Done: ").first.wait_for()


def _many(seen: Seen, served: Program, query: str, settings: Settings) -> dict[str, Any]:
    """Measure visitors who follow one measurement that nobody has asked for before, and a lecture that joins."""
    # here and not above: it reads Streamlit's protocol, which is installed where the dashboard is
    from stimcore.bench.page.visitors import crowd, lecture

    states = {number: state for number, state in CROWDS.items() if number <= 4 * settings.visitors} | {
        settings.visitors: CLASSROOM
    }
    crowds = {number: crowd(served.url, f"{query}&spec={states[number]}", number, served.pid) for number in sorted(states)}
    for value in crowds[settings.visitors].polls_ms:
        seen.add("poll_of_visitors", value)
    attended = lecture(served.url, f"{query}&spec={SHIPPED}&view=class", settings.lecture, settings.join_s, served.pid)
    for value in attended.stories_ms:
        seen.add("story_of_lecture", value)
    return {
        "crowds": [
            {
                "size": number,
                "polls": len(seen_by.polls_ms),
                "p95_ms": percentile(seen_by.polls_ms, 95),
                "unit_us": 1e6 * seen_by.cpu_s / len(seen_by.polls_ms),
                "core_share": seen_by.cpu_s / seen_by.seconds,
            }
            for number, seen_by in crowds.items()
            if seen_by.polls_ms
        ],
        "lecture_refused": attended.refused,
        "lecture_guesses": attended.guessed,
        "dashboard_mib": max(attended.resident_mib, psutil.Process(served.pid).memory_info().rss / 2**20),
    }


def _watched(served: Program, query: str, settings: Settings, runs: Path) -> dict[str, Any]:
    """Measure what a run in progress costs while visitors watch it."""
    from stimcore.bench.page.visitors import watchers  # see `_many`

    record = settings.exported.resolve() / settings.experiment / "common" / "training.jsonl"
    with run_in_progress(record, runs / settings.experiment / "common-0"):
        seen = watchers(served.url, query, "train", settings.visitors, WATCH_S, served.pid)
    return {"watched_polls": seen.polls, "watched_server": seen.server_share, "watched_dashboard": seen.dashboard_share}


class _Quiet(SimpleHTTPRequestHandler):
    """A static host that sends files as they are, uncompressed."""

    protocol_version = "HTTP/1.1"
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".js": "text/javascript"}

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


def _published(browser: "Browser", seen: Seen, experiment: Path, folder: Path, rounds: int) -> None:
    """Measure the first view of the published page on a phone-like connection and processor."""
    build_site([experiment], SiteSettings(images=16)).write(folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            for _ in range(rounds):
                with _tab(browser, SHOWN) as page:
                    session = page.context.new_cdp_session(page)
                    session.send("Network.enable")
                    session.send("Network.emulateNetworkConditions", PHONE)
                    session.send("Emulation.setCPUThrottlingRate", {"rate": PHONE_SLOWDOWN})
                    page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
                    page.locator("body[data-ready=true]").wait_for()  # the page's policy forbids functions made of text
                    page.wait_for_timeout(100)
                    seen.add("published_first_view_on_a_phone", page.evaluate("window.seen"))
        finally:
            server.shutdown()


def percentile(values: Sequence[float], percent: int) -> float:
    """Return a percentile by nearest rank.

    Example:
        >>> percentile([1.0, 2.0, 3.0, 4.0], 95), percentile([1.0, 2.0, 3.0, 4.0], 50)
        (4.0, 2.0)
    """
    return sorted(values)[-(-percent * len(values) // 100) - 1]


def missed(p95_ms: Mapping[str, float], many: Mapping[str, Any], attending: int) -> list[str]:
    """Return the names of the targets that were missed, or never measured.

    Args:
        p95_ms: Name -> 95th percentile.
        many: What the visitors and the lecture saw.
        attending: Visitors of the lecture.

    Example:
        >>> seen = {"lecture_refused": 0, "lecture_guesses": 4, "dashboard_mib": 300.0, "watched_server": 0.01}
        >>> missed(dict.fromkeys(PAGE_TARGETS_MS, 1.0) | {"click_to_picture": 60.0}, seen, 4)
        ['click_to_picture']
    """
    names = [name for name, target in PAGE_TARGETS_MS.items() if p95_ms.get(name, math.inf) > target]
    checks: Mapping[str, Callable[[float], bool]] = {
        "lecture_refused": lambda value: value > 0,
        "lecture_guesses": lambda value: value < attending,
        "dashboard_mib": lambda value: value > LARGEST_MIB,
        "watched_server": lambda value: value > WATCHED_SHARE,
    }
    return names + [name for name, is_missed in checks.items() if is_missed(many[name])]


def _report(settings: Settings, seen: Seen, many: Mapping[str, Any]) -> dict[str, Any]:
    p95 = {name: percentile(values, 95) for name, values in seen.values_ms.items()}
    return {
        "n": settings.rounds,
        "network": settings.experiment,
        "machine": describe(torch.device("cpu")),
        "p50_ms": {name: statistics.median(values) for name, values in seen.values_ms.items()},
        "p95_ms": p95,
        "counts": {name: len(values) for name, values in seen.values_ms.items()},
        "targets_ms": dict(PAGE_TARGETS_MS),
        **many,
        "lecture": settings.lecture,
        "missed": missed(p95, many, settings.lecture),
    }


def show(report: Mapping[str, Any]) -> int:
    """Print one line per duration and what was missed; return 0, since a busy machine is no fault of the program's."""
    for name, middle in report["p50_ms"].items():
        target = report["targets_ms"].get(name)
        aim = "" if target is None else f"  target {target:5.0f} ms"
        words, number = name.replace("_", " "), report["counts"][name]
        print(f"{words:34} n={number:4}  p50 {middle:7.0f} ms  p95 {report['p95_ms'][name]:7.0f} ms{aim}")
    for crowd in report["crowds"]:
        print(
            f"{crowd['size']:4} visitors, {crowd['polls']:4} polls: p95 {crowd['p95_ms']:4.0f} ms, "
            f"{crowd['unit_us'] / 1000:.1f} ms of processor each, {100 * crowd['core_share']:.0f} % of a core"
        )
    print(f"dashboard: {report['dashboard_mib']:.0f} MiB")
    print(f"lecture: {report['lecture_guesses']} guesses of {report['lecture']}, {report['lecture_refused']} refused")
    server, dashboard = 100 * report["watched_server"], 100 * report["watched_dashboard"]
    print(f"a run in progress, {report['watched_polls']} polls: server {server:.1f} %, dashboard {dashboard:.0f} % of a core")
    print("missed: " + (", ".join(name.replace("_", " ") for name in report["missed"]) or "nothing"))
    return 0
