"""Self-contained files with the preprocessing in the graph: pixels as picture libraries give them in, the same logits out."""

import json
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from PIL import Image

from stimcore.bundle import Bundle, open_bundle
from stimcore.bundle.pictures import write_pictures
from stimcore.data.normalise import Normalisation
from stimcore.data.preprocessing import Preprocessing
from stimcore.export.standalone import write_standalone
from stimcore.export.uint8_input import as_pixels, with_preprocessing


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_graph_normalises_as_numpy_does(mode: Literal["L", "RGB"]) -> None:
    """Around a network that returns its input."""
    channels = 1 if mode == "L" else 3
    rest = Normalisation((0.1, 0.5, 0.7)[:channels], (0.2, 0.3, 0.9)[:channels])
    steps = Preprocessing(mode=mode, crop=(4, 6), normalisation=rest)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", channels, 4, 6]) for name in ("images", "logits")]
    graph = helper.make_graph([helper.make_node("Identity", ["images"], ["logits"])], "same", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    changed = with_preprocessing(model, steps)
    onnx.checker.check_model(changed, full_check=True)
    pixels = np.random.default_rng(0).integers(0, 256, (5, channels, 4, 6), dtype=np.uint8)
    session = ort.InferenceSession(changed.SerializeToString())
    assert (session.get_inputs()[0].type, session.get_inputs()[0].shape) == ("tensor(uint8)", ["N", 4, 6, channels])
    (normalised,) = session.run(["logits"], {"pixels": as_pixels(pixels, steps)})
    np.testing.assert_allclose(normalised, steps(pixels), rtol=0, atol=1e-6)
    assert model.graph.input[0].name == "images"


@pytest.fixture(scope="module")
def written(small: list[Bundle], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with all four files of one network."""
    folder = Path(shutil.copytree(small[0].experiment.path, tmp_path_factory.mktemp("uint8") / "small"))
    bundle = open_bundle(folder / small[0].method)
    write_standalone(bundle, [bundle.topology.parse("d1-2-1")], half=True, preprocessing=True)
    return open_bundle(bundle.path)


def test_the_files_are_checked_listed_and_hashed(written: Bundle) -> None:
    rows = {row["file"]: row for row in json.loads((written.path / "standalone" / "index.json").read_text())["files"]}
    names = [f"subnet-d1-2-1{suffix}.onnx" for suffix in ("", "-fp16", "-uint8", "-fp16-uint8")]
    assert set(rows) == set(names)
    plain, half, pixels, half_pixels = (rows[name] for name in names)
    assert [row["input"] for row in (plain, half, pixels, half_pixels)] == ["images", "images", "pixels", "pixels"]
    assert (pixels["correct"], half_pixels["correct"]) == (plain["correct"], half["correct"])
    assert pixels["parity"] < 1e-4
    assert all(written.manifest.hashes[f"standalone/{name}"] == rows[name]["sha256"] for name in names)


def test_pictures_go_in_as_pillow_opens_them(written: Bundle, tmp_path: Path) -> None:
    """Nothing but Pillow, numpy and onnxruntime between a file and the stored accuracy."""
    write_pictures(written.experiment, tmp_path / "pictures")
    paths = sorted((tmp_path / "pictures").rglob("*.png"))
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    session = ort.InferenceSession(written.path / "standalone" / "subnet-d1-2-1-uint8.onnx")
    (logits,) = session.run(None, {"pixels": pixels})
    right = sum(written.experiment.classes[i] == path.parent.name for i, path in zip(logits.argmax(1), paths, strict=True))
    assert right == written.manifest.networks["subnet-d1-2-1.onnx"].correct


def test_the_file_says_what_stays_outside(written: Bundle) -> None:
    model = onnx.load(written.path / "standalone" / "subnet-d1-2-1-uint8.onnx")
    metadata = {item.key: item.value for item in model.metadata_props}
    assert json.loads(metadata["input"]) == {
        "name": "pixels",
        "type": "uint8",
        "shape": ["N", 12, 12, 3],
        "outside": ["orientation by EXIF", "16 bits to 8 (scale)", "conversion to mode RGB", "resize and crop"],
    }
    assert "Input: pixels [N, 12, 12, 3], uint8, 0 to 255; division by 255" in model.doc_string
    assert "Output: logits [N, 5]. Accuracy: " in model.doc_string
    assert "float32" not in model.doc_string
    plain = onnx.load(written.path / "standalone" / "subnet-d1-2-1.onnx")
    assert "input" not in {item.key for item in plain.metadata_props}
