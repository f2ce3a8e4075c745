"""The page Train in a browser: runs that another program writes, and runs that the page starts itself."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from stimcore import files
from stimcore.bundle import Bundle, open_bundle
from tests.app.browsing import PAGES, ROOT, Dashboard, dashboard, done, environment, tab, violations
from tests.app.forwarding import forwarding

EPOCHS = 40
"""They take longer than the 10 s after which the page looks for a run that has begun."""
MINUTES = 15 * 60_000
"""Longest time for a step of a training on a machine with other work, in milliseconds."""
COUNT = """() => {
  window.counts = [];
  setInterval(() => {
    const traces = [...document.querySelectorAll('.js-plotly-plot')].flatMap((plot) => plot.data ?? []);
    const loss = traces.find((t) => t.name?.includes('mine/live') && t.yaxis === 'y2');
    if (loss && loss.x.length !== window.counts.at(-1)) window.counts.push(loss.x.length);
  }, 100);
}"""


@pytest.mark.slow
def test_a_training_run_is_followed_while_it_trains(small: list[Bundle], browser: Browser, tmp_path: Path) -> None:
    exported = small[0].path.parents[1]
    runs, pictures = tmp_path / "runs", exported.parent / "pictures"
    runs.mkdir()
    options = ["resnet20-fashion", "--method", "stimulative", "--dataset", f"folder:{pictures}", "--epochs", str(EPOCHS)]
    options += ["--train-per-class", "0", "--batch-size", "50", "--device", "cpu", "--workers", "0", "--quiet"]
    options += ["--run-dir", str(runs / "mine" / "live")]
    log = tmp_path / "training"
    with dashboard(tmp_path / "log", STIMCORE_EXPORTED=str(exported), STIMCORE_RUNS=str(runs)) as served:
        with tab(browser, served.url) as page:
            page.goto(served.url + PAGES["Train"])
            expect(page.get_by_text(re.compile("Accuracies are measured"))).to_be_visible(timeout=120_000)
            page.evaluate(COUNT)
            with log.open("w") as out:
                training = subprocess.Popen(
                    [sys.executable, "-m", "stimcore.train", *options],
                    cwd=ROOT,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=environment(OMP_NUM_THREADS="1"),
                )
            try:
                # the page follows without any click from here on
                expect(page.get_by_text(re.compile(rf"mine/live: epoch \d+ of {EPOCHS}"))).to_be_visible(timeout=120_000)
                assert training.wait(300) == 0, log.read_text()
                expect(page.get_by_text(re.compile("mine/live: epoch"))).to_have_count(0, timeout=120_000)
            finally:
                training.kill()
            expect(page.get_by_text("mine/live (run)").first).to_be_visible()
            counts = page.evaluate("window.counts")
            assert counts == sorted(counts), counts
            assert counts[-1] == EPOCHS
            assert len(counts) >= 3, counts


@pytest.mark.slow
def test_a_training_is_started_watched_finished_and_opened(browser: Browser, tmp_path: Path) -> None:
    """ResNet-8 on a tenth of Fashion-MNIST, two epochs, both methods: nobody touches a command line."""
    exported, runs = tmp_path / "exported", tmp_path / "runs"
    shutil.copytree(ROOT / "exported" / "resnet20-fashion", exported / "resnet20-fashion")
    experiment = "resnet8-fashion-mnist-600-per-class-2-epochs"
    with dashboard(tmp_path / "log", STIMCORE_EXPORTED=str(exported), STIMCORE_RUNS=str(runs)) as served:
        with tab(browser, served.url) as page:
            page.goto(served.url + "/training")  # the former address leads here
            expect(page).to_have_url(re.compile("/train"))
            choose(page, "Network", "ResNet-8")
            page.get_by_role("spinbutton", name="Epochs").fill("2")
            page.get_by_role("spinbutton", name="Epochs").press("Enter")
            expect(page.get_by_text(re.compile("6,000 images in every epoch: about \\d+ (seconds|minutes)"))).to_be_visible()
            page.get_by_role("button", name="Start").click()
            expect(page.get_by_text("ResNet-8, stimulative training waits: 1 before it.")).to_be_visible()
            for method in ("common", "stimulative"):
                for epoch in (0, 1):
                    progress = page.get_by_text(re.compile(f"ResNet-8, {method} training: epoch {epoch} of 2"))
                    expect(progress).to_be_visible(timeout=MINUTES)
                expect(page.get_by_text(f"ResNet-8, {method} training finished.")).to_be_visible(timeout=MINUTES)
            assert violations(page) == []
            records = files.read_jsonl(runs / experiment / "stimulative-0" / "training.jsonl")
            assert [record["epoch"] for record in records] == [1, 2]
            page.get_by_role("button", name="Open in Break it").first.click()
            expect(page.get_by_role("combobox", name="Experiment")).to_have_value(experiment, timeout=MINUTES)
            expect(page.locator(".lane")).to_have_count(2, timeout=MINUTES)
            done(page)
            for method in ("common", "stimulative"):
                assert len(open_bundle(exported / experiment / method).experiment.evaluation[1]) == 10_000


def test_only_this_machine_starts_runs(browser: Browser, served: Dashboard) -> None:
    """A visitor through a proxy on this machine watches."""
    with tab(browser, served.url) as page:
        page.goto(served.url + "/training")
        expect(page).to_have_url(re.compile("/train"))
        expect(page.get_by_role("button", name="Start")).to_be_visible()
    with forwarding(served.url, "10.0.0.7") as url, tab(browser, url) as page:
        page.goto(url + PAGES["Train"])
        expect(page.get_by_text("Here you can watch them.")).to_be_visible()
        expect(page.get_by_role("button", name="Start")).to_have_count(0)


def choose(page: Page, field: str, value: str) -> None:
    """Choose a value of a drop-down."""
    page.get_by_role("combobox", name=field).click()
    page.get_by_role("option", name=value, exact=True).click()
