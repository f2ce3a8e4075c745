"""The picture wall over HTTP: its images, and the answers of sub-networks on them."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stimcore.bundle import Answers, open_bundle
from stimcore.bundle.wall import WALL_IMAGES
from stimcore.engine.engine import Engine
from stimcore.errors import SpecError
from stimcore.serve.client.client import Client
from stimcore.serve.errors import NotFound
from tests.serve.processes import Running


@pytest.fixture
def client(server: Running) -> Client:
    return server.client()


def test_images_are_the_same_for_everybody_and_show_every_class(client: Client, exported: Path) -> None:
    experiment = open_bundle(exported / "tiny" / "common").experiment
    pixels, labels = experiment.evaluation
    wall = client.wall("tiny")
    assert len(wall) == min(WALL_IMAGES, len(labels))
    assert wall == client.wall("tiny")
    assert len({sample.index for sample in wall}) == len(wall)
    assert {sample.label for sample in wall} == set(labels.tolist())
    for sample in wall:
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(sample.png_base64)))), pixels[sample.index][0])
        assert sample.label == labels[sample.index]
    with pytest.raises(NotFound):
        client.wall("nobody")


@pytest.mark.parametrize("recalibrate", [True, False])
@pytest.mark.parametrize("text", ["main", "d1-1-1", "2-1-3.4-5-6.7-8"])
def test_answers_are_those_of_the_engine(client: Client, exported: Path, text: str, recalibrate: bool) -> None:
    bundle = open_bundle(exported / "tiny" / "common")
    answers = client.wall_answers("tiny", "common", text, recalibrate=recalibrate)
    spec = bundle.topology.parse(text)
    pixels = bundle.experiment.normalise(bundle.experiment.evaluation[0][[sample.index for sample in client.wall("tiny")]])
    expected = Answers.of(Engine(bundle, device="cpu", threads=1).logits(spec, pixels, recalibrate=recalibrate))
    assert answers.spec == str(spec)
    assert tuple(answers.classes) == expected.classes
    np.testing.assert_allclose(answers.confidence, expected.confidence, atol=2e-3)
    stored = recalibrate and bundle.wall is not None and spec in bundle.wall.states
    assert answers.source == ("stored" if stored else "measured")


def test_wrong_questions_are_refused(client: Client) -> None:
    with pytest.raises(SpecError):
        client.wall_answers("tiny", "common", "d9-9-9")
    with pytest.raises(NotFound):
        client.wall_answers("tiny", "nobody", "main")
