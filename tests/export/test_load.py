"""The way back: networks of bundles as torch modules, and transformers and ConvNeXts through exporter and engine."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

import stimcore
from stimcore.bundle import Bundle, open_bundle
from stimcore.engine.engine import Engine
from stimcore.errors import BundleError, SpecError, UsageError
from stimcore.export.request import listed_specs
from stimcore.nets.onnx_part import OPSET
from stimcore.nets.staged import StagedNet
from stimcore.reference.calibrate import recalibrated
from stimcore.runs import bundles
from stimcore.runs.bundles import bundle_network
from stimcore.runs.trained_run import open_run
from stimcore.subnets.families import ordered
from stimcore.subnets.topology import Topology
from tests.bundles import export_run, random_net, reference_inputs, write_pictures, write_run

EXPORTED = Path(__file__).parents[2] / "exported"
SIDE = 8
UNLISTED = {"vit-1-2-d8": "1.3-2", "convnext-1-2-d8": "x.2-4", "resnet14": "2.3-4.5", "densenet-2-2-k4": "d1-2"}
"""Network -> a sub-network that is not in its bundle."""


@pytest.fixture(scope="module", params=UNLISTED)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of a tiny network with the main network and the smallest ordered one."""
    name, root = str(request.param), tmp_path_factory.mktemp("load")
    net = random_net(name, SIDE, 0)
    write_pictures(root / "pictures", net, side=SIDE, train=60, test=40)
    write_run(root / "run", root / "pictures", name, side=SIDE)
    return export_run(root / "run", root / "exported" / name, [net.topology.ordered([1] * len(net.topology.sizes))])


def logits_of(module: nn.Module, images: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        logits: np.ndarray = module(images).numpy()
    return logits


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.abs(other).max())


def in_onnxruntime(bundle: Bundle, file: str, images: torch.Tensor) -> np.ndarray:
    session = ort.InferenceSession(str(bundle.path / file), providers=["CPUExecutionProvider"])
    logits: np.ndarray = session.run(None, {"images": images.numpy()})[0]
    return logits


def test_a_listed_network_computes_what_its_file_computes(bundle: Bundle) -> None:
    _, images = reference_inputs(bundle)
    assert len(bundle.manifest.networks) == 2
    for file, entry in bundle.manifest.networks.items():
        module = stimcore.load(bundle.path, entry.spec)
        assert not module.training
        assert difference(logits_of(module, images), in_onnxruntime(bundle, file, images)) < 1e-4
        assert sum(parameter.numel() for parameter in module.parameters()) == entry.parameters


def test_any_other_subnetwork_is_recalibrated_as_the_engine_does(bundle: Bundle) -> None:
    _, images = reference_inputs(bundle)
    spec = bundle.topology.parse(UNLISTED[bundle.topology.network])
    assert bundle.listed(spec) is None
    logits = logits_of(stimcore.load(str(bundle.path), str(spec)), images)
    engine = Engine(bundle, device="cpu", threads=1)
    assert difference(engine.logits(spec, images.numpy()), logits) < 1e-4
    *_, last = engine.evaluate([spec])
    assert last.results[spec].correct == int((logits.argmax(1) == bundle.experiment.evaluation[1]).sum())


def test_the_whole_network_is_what_was_exported(bundle: Bundle) -> None:
    """Also where constants are equal, of which the file has one: biases of a fresh transformer are all zero."""
    net = stimcore.load(bundle.path)
    assert isinstance(net, StagedNet)
    trained = open_run(bundle.path.parents[2] / "run").net
    for key, value in trained.module.state_dict().items():
        assert torch.equal(net.module.state_dict()[key], value) or key.endswith("num_batches_tracked"), key


def test_transformers_use_the_operators_of_the_opset(bundle: Bundle) -> None:
    import onnx

    model = onnx.load(str(bundle.path / "main.onnx"), load_external_data=False)
    onnx.checker.check_model(str(bundle.path / "main.onnx"), full_check=True)
    operators = {node.op_type for node in model.graph.node}
    assert {opset.domain: opset.version for opset in model.opset_import} == {"": OPSET}
    if bundle.topology.network.startswith(("vit", "convnext")):
        assert {"LayerNormalization", "MatMul"} <= operators
        assert "ReduceMean" not in operators or bundle.topology.network.startswith("convnext")


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("resnet20-fashion/stimulative", "d1-1-1"),
        ("resnet20-fashion/twin-d1-1-1", "main"),
        # torch.export has transposed the weights of their linear layers, and stored them without their names
        ("vit-tiny-fashion/common", "main"),
        ("convnext-mini-fashion/stimulative", "d1-1-1"),
    ],
)
def test_committed_networks_are_no_dead_ends(name: str, spec: str) -> None:
    bundle = open_bundle(EXPORTED / name, verify=False)
    images = torch.from_numpy(bundle.experiment.normalise(bundle.experiment.evaluation[0][:50]))
    file = bundle.listed(bundle.topology.parse(spec))
    assert file is not None
    assert difference(logits_of(stimcore.load(bundle.path, spec), images), in_onnxruntime(bundle, file, images)) < 1e-4


def test_a_weight_that_the_exporter_has_changed_is_never_left_as_it_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(EXPORTED / "convnext-mini-fashion" / "common", verify=False)
    constants, nodes = bundles._read_main(bundle)
    unnamed = min(name for name in constants if name.startswith("block2/val_"))
    monkeypatch.setattr(bundles, "_read_main", lambda _bundle: (constants | {unnamed: torch.zeros(1)}, nodes))
    with pytest.raises(BundleError, match=r"has no constant that is block2/block\.[35]\.weight.*--exporter torchscript"):
        bundle_network(bundle)


def test_what_can_not_be_loaded_is_refused(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="is no ordered sub-network"):
        stimcore.load(bundle.path, "d9-9")
    with pytest.raises(BundleError, match="there is no folder .*nowhere"):
        stimcore.load(tmp_path / "nowhere")
    monkeypatch.setattr("stimcore.runs.bundles.is_own", lambda name: True)
    with pytest.raises(UsageError, match="whose code would be run. Pass trust_code=True"):
        bundle_network(bundle)


def test_nothing_runs_where_there_is_no_batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    net = random_net("vit-1-2-d8", SIDE, 0)
    monkeypatch.setattr(StagedNet, "forward", None)
    assert not recalibrated(net, net.topology.full, torch.zeros(4, 3, SIDE, SIDE)).training


def test_more_files_than_anybody_wants_are_refused() -> None:
    with pytest.raises(UsageError, match="110,592 ordered sub-networks of densenet201, a file for each; allowed: at most"):
        listed_specs(Topology.of("densenet201", (6, 12, 48, 32), ordered_only=True), ["ordered"])


def test_every_wanted_network_is_listed_once_and_every_other_word_refused() -> None:
    topology = Topology.of("resnet20", (3, 3, 3), ordered_only=False)
    all_ordered = list(ordered(topology))
    for more in (["1-3.4-6.7-9"], ["main", "1-3.4-6.7-9", "d1-2-3", "1-3.4-6.7-9"]):
        for wanted in (["ordered", *more], [*more, "ordered"]):
            assert listed_specs(topology, wanted) == [*all_ordered, topology.parse("1-3.4-6.7-9")]
    assert listed_specs(topology, ["ordered"]) == all_ordered
    assert listed_specs(topology, ["main", "d3-3-3", "1.4.7"]) == [topology.full, topology.parse("1.4.7")]
    for wanted in (["ordered", "mian"], ["d9-9-9", "ordered"], ["mian"]):
        with pytest.raises(SpecError):
            listed_specs(topology, wanted)
