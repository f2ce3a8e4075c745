"""The published page in Firefox and WebKit, and what only some browsers can: camera and drawing."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Playwright, expect

from stimcore.publish.site import Settings, build_site
from tests.app.browsing import FLAGS, NO_CHROMIUM, find_chromium
from tests.other_browsers import BROWSERS, FIND, Window, wait_for
from tests.publish.hosting import hosted, runtime_or_skip, visit

EXPERIMENT = Path(__file__).parents[2] / "exported" / "resnet20-fashion"
UPLOAD = """
const canvas = Object.assign(document.createElement('canvas'), { width: 60, height: 40 }), ink = canvas.getContext('2d');
ink.fillStyle = '#fff';
ink.fillRect(20, 5, 20, 30);
const blob = await new Promise((done) => canvas.toBlob(done, 'image/png')), files = new DataTransfer();
files.items.add(new File([blob], 'mine.png', { type: 'image/png' }));
const field = document.getElementById('own');
field.files = files.files;
field.dispatchEvent(new Event('change'));
"""
AGREE = "return find('p').map((e) => e.innerText).filter((text) => text.includes('sub-networks agree')).length === 2"
LIGHT = """(canvas) => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return data.filter((value, i) => i % 4 === 0 && value > 128).length / (data.length / 4);
}"""
"""Share of the pixels that are light."""
COMPUTING = "return /Provisional|Done: measured in this browser/.test(find('.status')[0]?.innerText ?? '')"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The site of one experiment with the program that runs networks, below a path."""
    folder = tmp_path_factory.mktemp("browsers")
    site = build_site([EXPERIMENT], Settings(images=64, walls="stored", runtime=runtime_or_skip()))
    site.write(folder / "some" / "path")
    with hosted(folder) as address:
        yield f"{address}/some/path/"


def heading(window: Window, starts: str) -> str:
    return str(wait_for(window, f"const text = find('h1')[0]?.innerText ?? ''; return text.startsWith('{starts}') && text"))


def numbers(window: Window) -> list[str]:
    return list(window.run(FIND + "return find('.lane .accuracy').map((e) => e.innerText)"))


@pytest.mark.slow
@pytest.mark.parametrize("name", BROWSERS)
def test_broken_restored_shared_and_asked(name: str, url: str) -> None:
    with BROWSERS[name]() as window:
        window.open(f"{url}?spec=main&lang=en")
        heading(window, "Nothing is gone yet.")
        whole = numbers(window)
        window.run(FIND + "find('button[data-block=\"5\"]')[0].click()")
        sentence = heading(window, "Block 5 is gone.")
        broken, address = numbers(window), str(window.run("return location.href"))
        assert broken != whole
        assert all(re.fullmatch(r"\d+\.\d %", text) for text in broken)
        assert "spec=1-2-3.4-x5-6.7-8-9" in address
        window.run(FIND + "find('button[data-block=\"5\"]')[0].click()")
        heading(window, "Nothing is gone yet.")
        assert numbers(window) == whole
        window.open(address)  # a visitor who got the link
        assert heading(window, "Block 5 is gone.") == sentence
        assert numbers(window) == broken
        window.open(f"{url}?spec=1-x2-3.4-6-5.7-8-9&lang=en")  # a state that is computed
        wait_for(window, COMPUTING, within_s=300)
        window.open(f"{url}use-it/?lang=en")
        wait_for(window, "return Boolean(document.body.dataset.ready && document.getElementById('own'))")
        window.run(UPLOAD)
        wait_for(window, AGREE, within_s=300)
        assert window.run(FIND + "return find('[role=alert]').map((e) => e.innerText)") == []


@pytest.mark.slow
def test_a_photo_and_a_drawing_are_classified(drivers: Playwright, url: str) -> None:
    """Chromium has a camera that films a test pattern."""
    path = find_chromium()
    if path is None:
        pytest.skip(NO_CHROMIUM)
    fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    browser = drivers.chromium.launch(executable_path=path, args=[*FLAGS, *fake])
    with visit(browser, f"{url}use-it/", root=url) as page:
        agree = page.get_by_text(re.compile("sub-networks agree"))
        page.get_by_role("button", name="Use the camera").click()
        expect(page.locator("video")).to_be_visible()
        page.wait_for_function("document.querySelector('video').videoWidth > 0")
        page.get_by_role("button", name="Take the picture").click()
        expect(agree).to_have_count(2, timeout=300_000)
        expect(page.locator("video")).to_have_count(0)  # the camera is off again
        photo = page.locator("canvas.seen").evaluate("canvas => canvas.toDataURL()")
        page.get_by_role("button", name="Use the camera").click()
        page.get_by_role("button", name="Close the camera").click()
        expect(page.get_by_role("button", name="Use the camera")).to_be_visible()
        pad = page.locator("canvas.pad").bounding_box()
        assert pad is not None
        page.mouse.move(pad["x"] + 60, pad["y"] + 40)
        page.mouse.down()
        page.mouse.move(pad["x"] + 130, pad["y"] + 150, steps=5)
        page.mouse.up()
        page.get_by_role("button", name="Ask about the drawing").click()
        expect(agree).to_have_count(2, timeout=120_000)
        drawing = page.locator("canvas.seen").evaluate("canvas => canvas.toDataURL()")
        assert drawing != photo
        drawn = page.locator("canvas.seen").evaluate(LIGHT)
        assert 0.01 < drawn < 0.3  # the line, in white on black
        page.get_by_label("Swap light and dark").check()
        expect(agree).to_have_count(2, timeout=120_000)
        assert page.locator("canvas.seen").evaluate(LIGHT) > 0.6
    browser.close()
