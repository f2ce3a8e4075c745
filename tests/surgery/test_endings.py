"""What stands behind the logits of a file: a softmax is taken out, other endings are refused."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from stimcore.bundle import Answers, Bundle, open_bundle
from stimcore.bundle import __main__ as bundle_command
from stimcore.errors import UsageError
from tests.surgery.graphs import imported, with_ending

ENDINGS = ["Softmax", "LogSoftmax", "Softmax, Identity", "Softmax, Reshape", "Softmax, Log", "in front of Flatten"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_softmax_at_the_end_is_taken_out(
    ending: str, tiny_pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {}
    for name in ("none", ending):
        graph, output = with_ending(name)
        path = graph.save(tmp_path / f"{name}.onnx", output)
        out = tmp_path / f"out {name}"
        line = ["from-onnx", str(path), "--dataset", f"folder:{tiny_pictures}", "--out", str(out)]
        assert bundle_command.main(line) == 0
        bundle = open_bundle(out / "imported")
        images = bundle.experiment.normalise(bundle.experiment.evaluation[0][:20])
        session = ort.InferenceSession(bundle.path / "main.onnx")
        answers[name] = session.run(None, {"images": images})[0]
        assert bundle.wall is not None
        assert bundle.wall.states[bundle.topology.full] == Answers.of(answer_of(path, bundle, bundle.wall.images))
        note = f"{name}.onnx ends in the {'Log' * name.startswith('Log')}Softmax"
        seen = [note in text for text in (capsys.readouterr().out, *bundle.manifest.notes, (out / "README.md").read_text())]
        assert seen == ([False, False] if name == "none" else [True, True, True])
        assert bundle_command.main(["verify", str(out)]) == 0
    np.testing.assert_allclose(answers[ending], answers["none"], rtol=1e-4, atol=1e-6)


def answer_of(path: Path, bundle: Bundle, images: Sequence[int]) -> NDArray[np.float32]:
    """Logits that give the probabilities which onnxruntime computes from the file as it is."""
    pixels = bundle.experiment.normalise(bundle.experiment.evaluation[0][list(images)])
    outputs: NDArray[np.float32] = ort.InferenceSession(path).run(None, {"x": pixels})[0]
    return np.log(outputs) if (outputs >= 0).all() else outputs


@pytest.mark.parametrize(
    ("ending", "sentence"),
    [
        ("Sigmoid", r"ends in the Sigmoid 't\d+_0', which gives every class a probability of its own; allowed: classifiers"),
        ("Sigmoid, Identity", "ends in the Sigmoid"),
        ("other axis", r"ends in the Softmax 't\d+_0' over axis 0 of \[N, 5\], which are not its classes"),
        ("in groups", r"ends in the Softmax 't\d+_0' over axis 2 of \[N, 5, 1\], which are not its classes"),
        ("by hand", "are probabilities: none is negative, and those of every image sum to 1"),
    ],
)
def test_what_is_no_logit_and_cannot_be_made_one_is_refused(
    ending: str, sentence: str, tiny_pictures: Path, tmp_path: Path
) -> None:
    graph, output = with_ending(ending)
    path = graph.save(tmp_path / "g.onnx", output)
    with pytest.raises(UsageError, match=sentence):
        imported(path, tiny_pictures, tmp_path / "out")


def test_a_bundle_of_a_softmax_that_was_left_in_is_made_again(
    tiny_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, output = with_ending("Softmax")
    path = graph.save(tmp_path / "g.onnx", output)
    with monkeypatch.context() as before:
        before.setattr("stimcore.surgery.reading.TO_PROBABILITIES", frozenset())
        before.setattr("stimcore.surgery.bundle.SUM_SLACK", 0)
        _, old = imported(path, tiny_pictures, tmp_path / "out")
        assert old.wall is not None
    _, new = imported(path, tiny_pictures, tmp_path / "out")
    assert new.wall is not None
    assert old.wall.states != new.wall.states
