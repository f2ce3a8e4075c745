"""Hypothesis profiles, and the bundles and the browser that several packages' tests share.

What one kind of test needs (torch, Playwright, Chromium) is imported by the fixture that needs it, so that the other tests run
where it is not installed: those of the dashboard on macOS and Windows, for example.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

    from stimcore.bundle import Bundle
    from tests.scheduling import FolderScheduling

ROOT = Path(__file__).parents[1]
IN_WORKER = "PYTEST_XDIST_WORKER" in os.environ
"""Whether this is one of several processes that share the tests."""
if IN_WORKER:
    # They share the cores already: threads of torch would only take turns. It has to be set before torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
collect_ignore_glob = ["other_systems/*", "serve/foreign/*"]
"""Programs that tests run in processes of their own. Looking into them for examples would run them here: the first one takes
functions away from the process that imports it."""
OPTIONAL = ("onnxruntime", "playwright", "torch", "torchvision")
"""Packages without which part of the tests can still run."""

# The default profile draws the same examples in every run, so that nobody meets a failure that has nothing to do with their
# change. `make random` looks for new failures; each one it prints can be repeated with the line printed below it.
settings.register_profile("default", derandomize=True, deadline=None)
settings.register_profile("random", derandomize=False, deadline=None, print_blob=True)
settings.load_profile("default")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip a test module, with the reason, if an optional package that it imports is not installed."""
    report = yield
    if report.outcome == "failed" and isinstance(collector, pytest.Module):
        missing = re.search(r"No module named '(\w+)[.\w]*'\s*\Z", report.longreprtext)
        if missing and missing[1] in OPTIONAL:
            report.outcome = "skipped"
            report.longrepr = (str(collector.path), 0, f"Skipped: needs {missing[1]}, which is not installed")
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FolderScheduling | None:
    """Divide the tests by folder and file in `pytest -n 2 --dist loadfile`; other ways to divide them stay as they are."""
    if config.getoption("dist") != "loadfile":
        return None
    from tests.scheduling import FolderScheduling

    config.option.loadscopereorder = False  # the tests are in order: see `pytest_collection_modifyitems`
    return FolderScheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run of several processes that ends, for whatever reason, before all of its tests have been run."""
    controller = session.config.pluginmanager.getplugin("dsession")
    left = getattr(getattr(controller, "sched", None), "num_left", 0)
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        print(f"\nerror: the run ended although {left} tests have not been run.")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the folders that take longest begin first, where several processes share the tests."""
    if IN_WORKER:
        from tests.scheduling import rank

        items.sort(key=lambda item: rank(item.nodeid))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """Begin every test with denormal numbers switched on.

    The first onnxruntime session of a process switches them off for good in the thread that makes it, as it would in a
    program of ours. Hypothesis refuses to draw floats without them, in whatever test comes next.
    """
    if sys.float_info.min / 2 == 0:
        with suppress(ImportError):
            import torch  # onnxruntime can't switch them on again

            torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Two bundles of a ResNet-20 with random weights: 12 x 12 pixels, 600 training and 400 test images, 5 classes."""
    pytest.importorskip("torch", reason="needs torch, which is not installed")
    from stimcore.bundle import open_bundle
    from tests.bundles import small_experiment

    mine = tmp_path_factory.mktemp("small")
    if not IN_WORKER:
        return small_experiment(mine)
    # One of the processes that share the tests makes it, and each has a copy that its tests may change. The run folders name
    # the pictures of the first.
    first = tmp_path_factory.getbasetemp().parent / "small"
    with FileLock(first.with_suffix(".lock")):
        if not (first / "complete").exists():
            shutil.rmtree(first, ignore_errors=True)
            small_experiment(first)
            (first / "complete").touch()
    shutil.copytree(first, mine, dirs_exist_ok=True)
    return [open_bundle(mine / "exported" / "small" / method) for method in ("common", "stimulative")]


@pytest.fixture(scope="session")
def fashion() -> Path:
    """The committed experiment with ResNet-20 on Fashion-MNIST."""
    return ROOT / "exported" / "resnet20-fashion"


@pytest.fixture(scope="session")
def drivers() -> Iterator[Playwright]:
    """Playwright, one for the whole session; its event loop runs in this thread from here on."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """Chromium, one for the whole session."""
    from tests.app.browsing import FLAGS, NO_CHROMIUM, find_chromium

    path = find_chromium()
    if path is None:
        pytest.skip(NO_CHROMIUM)
    drivers: Playwright = request.getfixturevalue("drivers")  # not started where there is no browser to drive
    started = drivers.chromium.launch(executable_path=path, args=FLAGS)
    yield started
    started.close()
