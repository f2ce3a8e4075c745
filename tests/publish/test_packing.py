"""What a browser unpacks is what was packed, byte for byte."""

import base64
import zlib
from collections.abc import Iterator
from importlib.resources import files as package_files
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page

from stimcore.bundle import open_bundle
from stimcore.publish import packing
from stimcore.publish.packing import packed_images, packed_weights
from tests.publish.hosting import hosted

EXPERIMENT = Path(__file__).parents[2] / "exported" / "resnet20-fashion"
UNPACK = """
async ([packed, shape]) => {
  const { unpackImages, unpackWeights } = await import('./packing.js');
  const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  const content = new Uint8Array(await new Response(stream).arrayBuffer());
  const found = shape ? unpackImages(content, shape) : unpackWeights(content);
  return Array.from(found);
}
"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    with hosted(Path(str(package_files("stimcore.publish") / "page"))) as address:
        page = browser.new_page()
        page.goto(f"{address}/packing.js")
        yield page
        page.close()


def unpacked(page: Page, packed: bytes, shape: tuple[int, ...] | None = None) -> bytes:
    return bytes(page.evaluate(UNPACK, [base64.b64encode(packed).decode(), shape and list(shape)]))


def images_like(kind: str) -> NDArray[np.uint8]:
    drawn = np.random.default_rng(4)
    if kind == "photos":
        return open_bundle(EXPERIMENT / "common", verify=False).experiment.evaluation[0][:20]
    if kind == "noise in colour":
        return drawn.integers(0, 256, (3, 3, 7, 5)).astype(np.uint8)
    return {
        "one pixel": np.full((1, 1, 1, 1), 255, np.uint8),
        "one column": drawn.integers(0, 256, (2, 1, 9, 1)).astype(np.uint8),
        "one row": drawn.integers(0, 256, (2, 2, 1, 9)).astype(np.uint8),
        "extremes": drawn.choice(np.array([0, 255], np.uint8), (4, 1, 16, 16)),
        "none": np.zeros((0, 3, 8, 8), np.uint8),
    }[kind]


@pytest.mark.parametrize("kind", ["photos", "noise in colour", "one pixel", "one column", "one row", "extremes", "none"])
def test_images_come_back(page: Page, kind: str) -> None:
    images = images_like(kind)
    assert unpacked(page, packed_images(images), images.shape[1:]) == images.tobytes()


@pytest.mark.parametrize("size", [0, 3, 4, 4_099])
def test_weights_come_back(page: Page, size: int) -> None:
    """Whatever the file holds: also values that are no numbers, and a size that is no multiple of four."""
    content = np.random.default_rng(size).integers(0, 256, size).astype(np.uint8).tobytes()
    assert unpacked(page, packed_weights(content)) == content
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1.5], "<f4").tobytes()
    assert unpacked(page, packed_weights(special)) == special


def test_images_are_packed_alike_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large experiment's images are packed a few at a time; the file doesn't depend on how many these are."""
    images = images_like("photos")
    at_once = packed_images(images)
    monkeypatch.setattr(packing, "AT_ONCE", 3 * images[0].size)
    assert packed_images(images) == at_once


def test_packed_files_are_smaller_than_compressed_ones() -> None:
    bundle = open_bundle(EXPERIMENT / "common", verify=False)
    weights, images = bundle.read("weights.bin"), bundle.experiment.calibration
    assert len(packed_weights(weights)) < 0.93 * len(zlib.compress(weights, 9))
    assert len(packed_images(images)) < 0.85 * len(zlib.compress(images.tobytes(), 9))
