"""The registered diagram in a browser, on a page without a model server: 54 blocks, and a DenseNet."""

import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.app.browsing import ROOT, block, code, environment, free_port, tab, violations

PAGE = """
import sys
sys.path.insert(0, {root!r})
from functools import partial
import streamlit as st
from app import arrangement, session
from app.components import diagram
from stimcore.subnets.topology import Topology

st.title("Picture")
TOPOLOGIES = {{
    "resnet110": Topology.of("resnet110", [18, 18, 18], {{19: "no skip path", 37: "no skip path"}}),
    "densenet": Topology.of("densenet264", [6, 12, 64, 48], ordered_only=True),
}}
topology = TOPOLOGIES[st.query_params.get("net", "resnet110")]

def edit():
    session.memory(session.EditHistory).revision += 1
    session.write_spec(topology, session.edited_text("net_picture"))

slot = st.container()
text = st.text_input("Architecture code", value=str(arrangement.full(topology)), key="spec")
with slot:
    diagram(topology, arrangement.read(topology, text), revision=session.memory(session.EditHistory).revision,
            large=False, key="net_picture", on_edit=edit)
"""


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a page that holds nothing but the picture."""
    folder = tmp_path_factory.mktemp("picture")
    (folder / "page.py").write_text(PAGE.format(root=str(ROOT)), encoding="utf-8")
    port = free_port()
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", "streamlit", "run", str(folder / "page.py"), f"--server.port={port}"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=environment())
    url = f"http://localhost:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(url + "/_stcore/health", timeout=1)
            break
        except OSError:
            time.sleep(0.1)
    yield url
    process.terminate()
    process.wait(30)
    assert "Traceback" not in Path(folder / "log").read_text()


def test_fifty_four_blocks_fit_and_move(browser: Browser, picture: str) -> None:
    with tab(browser, picture) as page:
        page.goto(picture + "/?net=resnet110")
        expect(block(page, 54)).to_be_visible()
        assert page.locator(".net button").count() == 54
        for width in (1280, 375):
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")
        block(page, 54).click()
        block(page, 30).focus()
        page.keyboard.press("Alt+ArrowLeft")
        expect(code(page)).to_have_value(re.compile(r"28-30-29-31.*53-x54$"))
        block(page, 1).focus()
        page.keyboard.press("End")
        expect(block(page, 54)).to_be_focused()
        assert violations(page) == []


def test_densenet_loses_only_the_ends_of_stages(browser: Browser, picture: str) -> None:
    with tab(browser, picture) as page:
        page.goto(picture + "/?net=densenet")
        expect(block(page, 130)).to_be_visible()
        block(page, 4).click()
        expect(code(page)).to_have_value(re.compile(r"^1-2-3-x4-x5-x6\.7-8"))
        block(page, 5).click()
        expect(code(page)).to_have_value(re.compile(r"^1-2-3-4-5-x6\.7-8"))
        block(page, 7).click(force=True)
        expect(page.locator(".hint")).to_have_text(re.compile("every stage keeps its first block"))
        block(page, 20).focus()
        page.keyboard.press("Alt+ArrowLeft")
        expect(page.locator(".hint")).to_have_text(re.compile("none can move"))
        expect(code(page)).to_have_value(re.compile(r"^1-2-3-4-5-x6\.7-8"))
