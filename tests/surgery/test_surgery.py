"""Blocks of ONNX files that stimcore did not write: what is found, that counts are onnxruntime's, and what is refused."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from stimcore.bundle import Answers, Bundle, open_bundle
from stimcore.bundle import __main__ as bundle_command
from stimcore.data.folder import image_folder
from stimcore.data.normalise import Normalisation
from stimcore.engine.engine import Engine
from stimcore.errors import ParityError, UsageError
from stimcore.export.experiment import check_unchanged, shared_experiment
from stimcore.export.parity import Tolerance
from stimcore.subnets.families import deletions
from stimcore.subnets.spec import Spec
from stimcore.surgery.blocks import find_blocks
from stimcore.surgery.bundle import ImportedNetwork, import_network, write_bundle
from stimcore.surgery.plain import plain_graph
from stimcore.surgery.reading import read_onnx
from tests.surgery.graphs import NETWORKS, SIDE, HandMade, export, write_pictures

SIZES = {
    "resnet18": ((2, 2, 2, 2), (3, 5, 7)),
    "mobilenet_v2": ((1, 2, 3, 4, 3, 3), (2, 4, 7, 11, 14)),
    "convnext": ((2, 3, 3), (3, 6)),
    "vit": ((4,), ()),
    "timm-mobilenetv3": ((1, 5, 3), (2, 7)),
    "timm-convnext": ((2, 3, 7, 3), (3, 6, 13)),
}
"""Blocks per stage and blocks that can't be removed."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def imported(path: Path, pictures: Path, out: Path) -> tuple[ImportedNetwork, Bundle]:
    file = read_onnx(path)
    network, dataset = import_network(file, file.image_shape()), image_folder(pictures)
    return network, write_bundle(network, dataset, dataset.normalisation, out)


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


def with_ending(ending: str) -> tuple[HandMade, str]:
    """A residual network of five classes with something behind its logits; the weights are always the same."""
    graph = HandMade()
    x = graph.conv("x", of=3)
    for _ in range(2):
        x = graph.add("Add", graph.conv(graph.add("Relu", x)), x)
    pooled = graph.add("GlobalAveragePool", x)
    maps = graph.add("Conv", pooled, graph.weight(5, 4, 1, 1))  # [N, 5, 1, 1]
    if ending == "in front of Flatten":
        return graph, graph.add("Flatten", graph.add("Softmax", maps, axis=1))
    y = graph.add("Flatten", maps)
    if ending == "by hand":
        powers = graph.add("Exp", y)
        y = graph.add("Div", powers, graph.add("ReduceSum", powers, graph.constant(np.array([1], np.int64))))
    elif ending == "other axis":
        y = graph.add("Softmax", y, axis=0)
    elif ending == "in groups":  # [N, 5] as [N, 5, 1]: every class alone
        apart = graph.add("Unsqueeze", y, graph.constant(np.array([2], np.int64)))
        y = graph.add("Flatten", graph.add("Softmax", apart, axis=2))
    elif ending != "none":
        for op in ending.split(", "):
            shape = [graph.constant(np.array([-1, 5], np.int64))] if op == "Reshape" else []
            y = graph.add(op, y, *shape)
    return graph, y


ENDINGS = ["Softmax", "LogSoftmax", "Softmax, Identity", "Softmax, Reshape", "Softmax, Log", "in front of Flatten"]


@pytest.fixture(scope="module")
def tiny_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("tiny"), side=8)


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


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("deviation", "--std 1e-45,1,1 for images of 3 channels"),
        ("weights", "the weights 'w0' of .* are not finite"),
        ("outputs", "the outputs of .* are not finite"),
        ("parity", "differs from its reference by"),
        ("stopped", None),
    ],
)
@pytest.mark.parametrize("before", ["nothing", "another method"])
def test_an_import_that_failed_leaves_nothing_in_the_way(
    fault: str, sentence: str | None, before: str, tiny_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, output = with_ending("none")
    path, out = graph.save(tmp_path / "g.onnx", output), tmp_path / "out"
    line = ["from-onnx", str(path), "--dataset", f"folder:{tiny_pictures}", "--out", str(out), "--mean", "0,0,0"]
    if before == "another method":
        if fault == "deviation":
            pytest.skip("an experiment with a method keeps its normalisation")
        assert bundle_command.main([*line, "--std", "1,1,1", "--name", "first"]) == 0
    content = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    wrong = onnx.load(path)
    if fault in ("weights", "outputs"):
        value = np.nan if fault == "weights" else 3e38
        shape = tuple(wrong.graph.initializer[0].dims)
        wrong.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.full(shape, value, np.float32), "w0"))
    (tmp_path / "wrong").mkdir()
    onnx.save(wrong, tmp_path / "wrong" / "g.onnx")
    with monkeypatch.context() as patch:
        error: type[BaseException] = UsageError
        if fault == "parity":
            patch.setattr("stimcore.surgery.bundle.FLOAT32", Tolerance(-1, 1))
            error = ParityError
        if fault == "stopped":
            patch.setattr("stimcore.surgery.bundle.GraphCosts", stopped)
            error = KeyboardInterrupt
        deviation = "1e-45,1,1" if fault == "deviation" else "1,1,1"
        with pytest.raises(error, match=sentence):
            bundle_command.main(["from-onnx", str(tmp_path / "wrong" / "g.onnx"), *line[2:], "--std", deviation])
    assert {file for file in out.rglob("*") if file.is_file() and file.name != ".lock"} == set(content) - {out / ".lock"}
    assert not (out / ".imported.part").exists()
    assert all(file.read_bytes() == bytes_before for file, bytes_before in content.items())
    assert bundle_command.main([*line, "--std", "1,1,1"]) == 0
    assert bundle_command.main(["verify", str(out)]) == 0


def stopped(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_experiment_that_a_killed_import_left_is_replaced(tiny_pictures: Path, tmp_path: Path) -> None:
    graph, output = with_ending("none")
    file = read_onnx(graph.save(tmp_path / "g.onnx", output))
    network, dataset = import_network(file, file.image_shape()), image_folder(tiny_pictures)
    zeros, ones = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    wrong, right = Normalisation(zeros, (2.0, 2.0, 2.0)), Normalisation(zeros, ones)
    left = shared_experiment(tmp_path / "out", dataset, network.structure.topology, wrong, twin=False)
    (left.path / ".imported.part").mkdir()
    bundle = write_bundle(network, dataset, right, tmp_path / "out")
    assert bundle.experiment.std == ones
    with pytest.raises(UsageError, match="was replaced or removed by another export meanwhile. Start this export again"):
        check_unchanged(left)
    with pytest.raises(UsageError, match="holds another experiment"):
        write_bundle(network, dataset, wrong, tmp_path / "out", name="second")


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
