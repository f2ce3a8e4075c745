"""The page Training in a browser, while a real training writes its run folder."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from stimcore.bundle import Bundle
from tests.app.browsing import PAGES, ROOT, dashboard, environment, tab

EPOCHS = 6
COUNT = """() => {
  window.counts = [];
  setInterval(() => {
    const traces = document.querySelector('.js-plotly-plot')?.data ?? [];
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
    options += ["--batch-size", "50", "--device", "cpu", "--workers", "0", "--quiet", "--run-dir", str(runs / "mine" / "live")]
    log = tmp_path / "training"
    with dashboard(tmp_path / "log", STIMCORE_EXPORTED=str(exported), STIMCORE_RUNS=str(runs)) as served:
        with tab(browser, served.url) as page:
            page.goto(served.url + PAGES["Training"])
            expect(page.get_by_text(re.compile("Accuracies are measured"))).to_be_visible(timeout=60_000)
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
                expect(page.get_by_text(re.compile("mine/live: epoch"))).to_have_count(0, timeout=30_000)
            finally:
                training.kill()
            expect(page.get_by_text("mine/live (run)").first).to_be_visible()
            counts = page.evaluate("window.counts")
            assert counts == sorted(counts), counts
            assert counts[-1] == EPOCHS
            assert len(counts) >= 3, counts
