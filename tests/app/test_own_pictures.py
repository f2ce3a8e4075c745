"""Strangers' folders of pictures through everything: train, export, classify, upload, the shown program, pixels in the graph.

Every way to ask gets the test files themselves and must count as many right as the export measured.
"""

import base64
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from playwright.sync_api import Browser, expect

from stimcore.bundle import Bundle, open_bundle
from stimcore.data.program import classify_program
from stimcore.export import __main__ as export
from stimcore.export.uint8_input import as_pixels
from stimcore.serve.types import ClassifyRequest
from stimcore.train import __main__ as train
from tests.app.browsing import dashboard, tab
from tests.bundles import QUICKLY
from tests.own_pictures import FOLDERS, SIZES
from tests.serve.processes import Running

pytestmark = pytest.mark.slow
TRAINING = "--method common --name common --network resnet8 --epochs 10 --batch-size 16 --evaluate-every 10 --train-per-class 0"
QUIETLY = "--quiet --device cpu --watch"


@dataclasses.dataclass(frozen=True)
class Loop:
    """The experiments of all folders, and a server of them.

    Attributes:
        root: `pictures/NAME` and `exported/NAME` of every folder.
        server: Serves `exported`.
        bundles: Name of the folder -> its bundle.
    """

    root: Path
    server: Running
    bundles: dict[str, Bundle]

    def test_files(self, name: str) -> list[Path]:
        """Return the test pictures of a folder, as they were given."""
        parts = [path for pattern in ("test", "valid") for path in (self.root / "pictures" / name).rglob(pattern)]
        (part,) = [path for path in parts if "__MACOSX" not in path.parts]
        return sorted(path for path in part.rglob("*") if path.is_file() and not path.name.startswith("._"))


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    root = tmp_path_factory.mktemp("loop")
    bundles = {}
    for name, write in FOLDERS.items():
        write(root / "pictures" / name)
        given = ["--dataset", f"folder:{root / 'pictures' / name}@32", "--run-dir", str(root / "runs" / name)]
        assert train.main(["resnet20-fashion", *TRAINING.split(), *given, *QUIETLY.split()]) == 0
        words = [str(root / "runs" / name), "--out", str(root / "exported" / name), "--with-preprocessing", "--quiet", *QUICKLY]
        assert export.main([*words, "--subnets", "main"]) == 0
        bundles[name] = open_bundle(root / "exported" / name / "common")
    with Running(root / "exported", root / "server.log") as server:
        yield Loop(root, server, bundles)


@pytest.mark.parametrize("name", FOLDERS)
def test_every_way_counts_the_same(name: str, loop: Loop) -> None:
    bundle, files = loop.bundles[name], loop.test_files(name)
    experiment, correct = bundle.experiment, bundle.main.correct
    assert len(files) == bundle.manifest.images == 2 * SIZES["test"]
    counts = {"export": correct}

    def right(path: Path, answer: int) -> bool:
        return experiment.classes[answer] == path.parent.name

    with closing(loop.server.client()) as client:
        answers = [
            client.classify(
                name,
                ClassifyRequest(method="common", specs=("main",), image_base64=base64.b64encode(path.read_bytes()).decode()),
            )
            for path in files
        ]
    probabilities = [answer.results[0].probabilities for answer in answers]
    counts["classify"] = sum(right(path, int(np.argmax(row))) for path, row in zip(files, probabilities, strict=True))

    (loop.root / f"{name}.py").write_text(
        classify_program(experiment.preprocessing, experiment.classes, str(bundle.path / "main.onnx")), encoding="utf-8"
    )
    shown = subprocess.run(
        [sys.executable, "-P", f"{name}.py", *map(str, files)], cwd=loop.root, capture_output=True, text=True, check=True
    )
    counts["program"] = int(shown.stdout.splitlines()[-1].split()[0])

    session = ort.InferenceSession(bundle.path / "standalone" / "main-uint8.onnx")
    pixels, labels = experiment.evaluation
    (logits,) = session.run(None, {"pixels": as_pixels(pixels, experiment.preprocessing)})
    counts["uint8"] = int((logits.argmax(1) == labels).sum())
    print(name, json.dumps(counts), "of", len(files))
    assert set(counts.values()) == {correct}
    assert correct >= 0.95 * len(files)


def test_uploads_are_answered_as_the_test_says(loop: Loop, browser: Browser, tmp_path: Path) -> None:
    """The first and the last test picture of every folder, chosen as a visitor chooses a file."""
    variables = {"STIMCORE_SERVER": loop.server.url, "STIMCORE_RUNS": str(tmp_path / "runs")}
    with dashboard(tmp_path / "log", **variables) as running:
        for name in FOLDERS:
            for path in (loop.test_files(name)[0], loop.test_files(name)[-1]):
                with tab(browser, running.url) as page:
                    page.goto(f"{running.url}/use-it?experiment={name}")
                    page.locator("input[type=file]").set_input_files(path)
                    expect(page.get_by_text("as the networks see it", exact=True)).to_be_visible()
                    says = page.get_by_text(re.compile("the whole network says"))
                    expect(says).to_contain_text(f"says {path.parent.name};")
