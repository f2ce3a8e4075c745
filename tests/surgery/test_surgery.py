"""Blocks of ONNX files that stimcore did not write: what is found, that counts are onnxruntime's, and what is refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from stimcore.bundle import Bundle
from stimcore.bundle import __main__ as bundle_command
from stimcore.data.folder import image_folder
from stimcore.engine.engine import Engine
from stimcore.errors import UsageError
from stimcore.subnets.families import deletions
from stimcore.subnets.spec import Spec
from stimcore.surgery.blocks import find_blocks
from stimcore.surgery.bundle import ImportedNetwork, import_network, write_bundle
from stimcore.surgery.plain import plain_graph
from stimcore.surgery.reading import read_onnx
from tests.surgery.graphs import NETWORKS, SIDE, HandMade, export, imported, write_pictures

SIZES = {
    "resnet18": ((2, 2, 2, 2), (3, 5, 7)),
    "mobilenet_v2": ((1, 2, 3, 4, 3, 3), (2, 4, 7, 11, 14)),
    "convnext": ((2, 3, 3), (3, 6)),
    "vit": ((4,), ()),
    "timm-mobilenetv3": ((1, 5, 3), (2, 7)),
    "timm-convnext": ((2, 3, 7, 3), (3, 6, 13)),
}
"""Blocks per stage and blocks that can't be removed."""


def logits_in_onnxruntime(network: ImportedNetwork, bundle: Bundle, spec: Spec) -> NDArray[np.float32]:
    """Logits of the file itself, with every missing block bypassed: what read its output reads its input."""
    model = onnx.ModelProto()
    model.CopyFrom(network.file.model)
    gone = set(bundle.topology.full.blocks) - set(spec.blocks)
    bypass = {part.exit: part.entry for name, part in network.structure.parts.items() if name.number in gone}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            while name in bypass:
                name = bypass[name]
            node.input[place] = name
    images = bundle.experiment.normalise(bundle.experiment.evaluation[0])
    session = ort.InferenceSession(model.SerializeToString())
    logits: NDArray[np.float32] = session.run([network.file.output], {network.file.input: images})[0]
    return logits


def check(path: Path, pictures: Path, out: Path) -> Bundle:
    network, bundle = imported(path, pictures, out)
    check_deletions(network, bundle)
    return bundle


def check_deletions(network: ImportedNetwork, bundle: Bundle) -> None:
    """Compare counts and logits of every single deletion with onnxruntime's on the file itself."""
    engine, full = Engine(bundle, device="cpu"), bundle.topology.full
    pixels, labels = bundle.experiment.evaluation
    specs = [full, *deletions(bundle.topology, 1)]
    (progress,) = [p for p in engine.evaluate(specs, recalibrate=False) if p.done]
    main = logits_in_onnxruntime(network, bundle, full)
    for spec in specs:
        expected = logits_in_onnxruntime(network, bundle, spec)
        assert progress.results[spec].correct == (expected.argmax(1) == labels).sum(), str(spec)
        logits = engine.logits(spec, bundle.experiment.normalise(pixels), recalibrate=False)
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4 * np.abs(main).max())
        assert spec == full or np.abs(expected - main).max() > 1e-3 * np.abs(main).max(), "the block does nothing"


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_of_public_networks(name: str, exporter: str, pictures: Path, tmp_path: Path) -> None:
    path = export(name, tmp_path / "net.onnx", dynamo=exporter == "dynamo", opset=17)
    network, bundle = imported(path, pictures, tmp_path / "out")
    assert (bundle.topology.sizes, tuple(bundle.topology.fixed)) == SIZES[name]
    check_deletions(network, bundle)


@pytest.mark.slow
def test_a_transformer_with_external_weights(pictures: Path, tmp_path: Path) -> None:
    path = export("vit", tmp_path / "net.onnx", dynamo=True)
    assert path.with_suffix(".onnx.data").exists()
    bundle = check(path, pictures, tmp_path / "out")
    assert bundle.topology.sizes == (4,)


@pytest.fixture(scope="module")
def with_norms(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("norms")
    path = export("mobilenet_v2", folder / "net.onnx", dynamo=False, keep_norms=True, opset=13)
    return check(path, pictures, folder / "out")


def test_batch_norms_that_are_left_are_recalibrated(with_norms: Bundle) -> None:
    assert with_norms.topology.sizes == (1, 2, 3, 4, 3, 3)
    engine, full = Engine(with_norms, device="cpu"), with_norms.topology.full
    images = with_norms.experiment.normalise(with_norms.experiment.evaluation[0][:20])
    session = ort.InferenceSession(with_norms.path / "main.onnx")
    np.testing.assert_allclose(engine.logits(full, images), session.run(None, {"images": images})[0], rtol=1e-3, atol=1e-4)
    assert np.abs(engine.logits(full, images) - engine.logits(full, images, recalibrate=False)).max() > 0.01


def test_the_same_file_is_not_imported_twice(with_norms: Bundle, pictures: Path) -> None:
    file = read_onnx(with_norms.experiment.path.parent / "net.onnx")
    network, dataset, reported = import_network(file, file.image_shape()), image_folder(pictures), list[str]()
    again = write_bundle(network, dataset, dataset.normalisation, with_norms.experiment.path, report=reported.append)
    assert again.fingerprint == with_norms.fingerprint
    assert "already" in reported[0]


def removable_blocks(graph: HandMade, output: str, tmp_path: Path) -> tuple[int, ...]:
    file = read_onnx(graph.save(tmp_path / "g.onnx", output))
    return find_blocks(plain_graph(file, file.image_shape()), "g").topology.sizes


def tokens(graph: HandMade, x: str) -> str:
    """[N, 3, 8, 8] as tokens [N, 64, 3]."""
    flat = graph.add("Reshape", x, graph.constant(np.array([0, 3, 64], np.int64)))
    return graph.add("Transpose", flat, perm=[0, 2, 1])


def logits(graph: HandMade, x: str) -> str:
    mean = graph.add("ReduceMean", x, graph.constant(np.array([1], np.int64)), keepdims=0)
    return graph.add("MatMul", mean, graph.weight(3, 5))


@pytest.mark.parametrize("swap", [False, True])
def test_either_operand_may_be_the_shortcut_and_an_activation_may_follow(swap: bool, tmp_path: Path) -> None:
    graph = HandMade()
    x = graph.add("Relu", graph.conv("x", of=3))
    for _ in range(2):
        branch = graph.conv(graph.add("Sigmoid", graph.conv(x)))
        x = graph.add("LeakyRelu", graph.add("Add", *((branch, x) if swap else (x, branch))))
    assert removable_blocks(graph, graph.head(x), tmp_path) == (2,)


def test_fused_norms_of_transformers_are_taken_apart(tmp_path: Path, pictures: Path) -> None:
    graph = HandMade()
    x = tokens(graph, "x")
    total, normed = x, graph.add("LayerNormalization", x, graph.weight(3), graph.weight(3))
    for _ in range(2):
        branch = graph.add("MatMul", normed, graph.weight(3, 3))
        inputs = (branch, total, graph.weight(3), graph.weight(3), graph.weight(3))
        normed = graph.add("SkipLayerNormalization", *inputs, outputs=4, domain="com.microsoft", epsilon=1e-5)
        total = graph.nodes[-1].output[3]
    output = logits(graph, normed)
    assert removable_blocks(graph, output, tmp_path) == (2,)
    small = write_pictures(tmp_path / "small", side=8)
    _, bundle = imported(graph.save(tmp_path / "g.onnx", output), small, tmp_path / "out")
    assert bundle.main.parity < 1e-5
    assert bundle.main.correct == bundle.main.correct_torch


def test_a_layer_norm_behind_every_block_belongs_to_it(tmp_path: Path) -> None:
    graph = HandMade()
    x = graph.add("LayerNormalization", tokens(graph, "x"), graph.weight(3), graph.weight(3))
    for _ in range(3):
        branch = graph.add("MatMul", graph.add("Tanh", x), graph.weight(3, 3))
        x = graph.add("LayerNormalization", graph.add("Add", branch, x), graph.weight(3), graph.weight(3))
    assert removable_blocks(graph, logits(graph, x), tmp_path) == (3,)


@pytest.mark.parametrize("case", ["plain", "bias", "other shape", "inner"])
def test_no_block_is_one_sentence_that_says_what_was_looked_for(case: str, tmp_path: Path) -> None:
    graph = HandMade()
    x = graph.conv("x", of=3)
    if case == "bias":
        x = graph.add("Add", x, graph.weight(1, 4, 1, 1))  # adds a constant
    if case == "other shape":
        x = graph.add("Add", graph.add("GlobalAveragePool", x), graph.conv(x))  # broadcast
    if case == "inner":
        a, b = graph.conv(x), graph.conv(x)
        x = graph.add("Mul", graph.add("Add", x, a), b)  # b passes by
    with pytest.raises(UsageError, match="no residual block in g: no node is an Add of two tensors of equal shape"):
        removable_blocks(graph, graph.head(x), tmp_path)


def test_nodes_may_stand_in_any_order(tmp_path: Path) -> None:
    graph = HandMade()
    x = graph.conv("x", of=3)
    output = graph.head(graph.add("Add", x, graph.conv(x)))
    graph.nodes.reverse()
    assert removable_blocks(graph, output, tmp_path) == (1,)


def read_and_look(path: Path) -> None:
    file = read_onnx(path)
    plain_graph(file, file.image_shape())


def broken(kind: str, folder: Path) -> Path:
    """A file that is no network which can be taken apart."""
    graph, path = HandMade(opset=12 if kind == "old" else 18), folder / "g.onnx"
    if kind == "missing":
        return folder / "nothing.onnx"
    if kind == "text":
        path.write_text("no model")
        return path
    if kind == "empty":
        path.write_bytes(b"")
        return path
    if kind == "batch":
        x = graph.add("Reshape", "x", graph.constant(np.array([1, 192], np.int64)))
        return graph.save(path, graph.add("MatMul", x, graph.weight(192, 5)), batch=1)
    if kind == "map":
        return graph.save(path, graph.conv("x", of=3))
    x = graph.conv("x", of=3)
    graph.save(path, graph.head(graph.add("Add", x, graph.conv(x))))
    model = onnx.load(path)
    if kind == "inputs":
        model.graph.input.append(onnx.helper.make_tensor_value_info("second", 1, [1]))
    if kind == "integers":
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    if kind == "newer":
        model.ir_version = 99
    if kind == "dangling":
        model.graph.node[1].input[0] = "nothing"
    if kind == "operator":
        model.graph.node[1].op_type = "Unheard"
    if kind == "short":
        model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:8]
    if kind in ("newer", "dangling", "operator", "short"):
        path.write_bytes(model.SerializeToString())  # `onnx.save` would look at it
        return path
    if kind == "weights":
        onnx.save(model, path, save_as_external_data=True, location="g.bin", size_threshold=0)
        (folder / "g.bin").unlink()
        return path
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("missing", "there is no file"),
        ("newer", "onnxruntime .* can't load .*IR version"),
        ("dangling", "onnxruntime .* can't load .*'nothing' is not a graph input"),
        ("operator", "onnxruntime .* can't load .*Unheard"),
        ("short", "onnxruntime .* can't load .*'w0': raw_data size"),
        ("text", "is not an ONNX model"),
        ("empty", "is not an ONNX model"),
        ("old", "uses operator set 12 of ONNX; allowed: 13 and newer"),
        ("batch", "does not run with 2 images.*dynamic batch"),
        ("map", r"the output of .* is \[N, 4, 8, 8\]; allowed: logits"),
        ("inputs", r"has 2 inputs \(x, second\)"),
        ("integers", "is uint8 with 4 axes"),
        ("weights", "the weights of|can't be read"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused_in_one_sentence(kind: str, sentence: str, tmp_path: Path) -> None:
    path = broken(kind, tmp_path)
    with pytest.raises(UsageError, match=sentence) as error:
        read_and_look(path)
    assert "\n" not in str(error.value)


def test_the_command_makes_a_bundle_without_torch(pictures: Path, tmp_path: Path) -> None:
    path = export("vit", tmp_path / "my net.onnx", dynamo=False, opset=17)
    program = (
        "import sys; sys.modules['torch'] = sys.modules['torchvision'] = None\n"
        "from stimcore.bundle.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["from-onnx", str(path), "--dataset", f"folder:{pictures}", "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "my-net: 4 blocks in 1 stage (1 to 4), 4 of them can be removed" in done.stdout
    assert bundle_command.main(["verify", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["from-onnx", "a.onnx"], "without --out or --dataset"),
        (["from-onnx", "a.onnx", "--seed", "1"], "from-onnx with --seed"),
        (["from-onnx", "a.onnx", "--dataset", "x", "--out", "y", "--name", "../z"], "--name '../z'"),
        (["verify", "exported", "--mean", "1"], "verify with --mean"),
    ],
)
def test_options_that_do_not_fit(arguments: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        bundle_command.main(arguments)


def test_images_that_do_not_fit(with_norms: Bundle, tmp_path: Path) -> None:
    file = read_onnx(with_norms.experiment.path.parent / "net.onnx")
    network = import_network(file, (3, SIDE, SIDE))
    other = image_folder(write_pictures(tmp_path / "other", side=16))
    with pytest.raises(UsageError, match="images of 3x16x16; allowed: images of 3x32x32"):
        write_bundle(network, other, other.normalisation, tmp_path / "out")
