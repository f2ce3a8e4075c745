"""ONNX equals torch on every family, whole and in part; sliced sub-networks go through the real exporter and engine."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from stimcore.bundle import Bundle, open_bundle
from stimcore.engine.engine import Engine
from stimcore.engine.graph.fold import folded_graph
from stimcore.engine.graph.main_graph import MainGraph, Statistics
from stimcore.engine.graph.slice import sliced_graph
from stimcore.engine.prefix_tree import Unit
from stimcore.export.choices import GraphExporter
from stimcore.export.graphs import network_graph
from stimcore.nets.staged import StagedNet
from stimcore.reference.calibrate import recalibrated
from stimcore.subnets import families
from stimcore.subnets.part_name import Route
from stimcore.subnets.spec import Spec
from tests.bundles import QUICKLY, export_run, random_net, reference_inputs, write_pictures, write_run
from tests.nets.conftest import SIDE

TOLERANCE = 1e-4
"""Largest difference of two logits, as a share of the largest logit."""
DENSE = "densenet-2-3-2-k6"


def run_onnx(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits: np.ndarray = session.run(None, {session.get_inputs()[0].name: images})[0]
    return logits


def some_specs(net: StagedNet) -> list[Spec]:
    """Return the main network and the first member of every family that the network has."""
    kinds = [kind for kind in families.KINDS if families.count(net.topology, kind)]
    return [net.topology.full, *(next(iter(families.family(net.topology, kind))) for kind in kinds)]


@pytest.mark.parametrize("exporter", ["torchscript", pytest.param("torch.export", marks=pytest.mark.slow)])
def test_every_family_in_onnxruntime(family: StagedNet, exporter: GraphExporter) -> None:
    """With the trained statistics, folded and not."""
    images = torch.randn(4, *family.input_shape, generator=torch.Generator().manual_seed(2))
    model, parts = network_graph(family, exporter)
    graph = MainGraph(model, parts, family.topology)
    for spec in some_specs(family):
        unit = Unit.whole(family.topology.route(spec))
        trained: dict[Route, Statistics] = {}
        for step in unit.steps:
            trained[step] = {}
            for norm in graph.norms(step[-1]):
                mean, var = (
                    graph.narrowed(tensor, step[-1], onnx.numpy_helper.to_array(graph.weights[tensor]))
                    for tensor in (f"{norm}.mean", f"{norm}.var")
                )
                trained[step][norm] = mean, var
        with torch.no_grad():
            expected = family(images, spec).numpy()
        for build in (folded_graph, sliced_graph):
            built = build(graph, unit, trained)
            assert np.abs(run_onnx(built, images.numpy()) - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> tuple[StagedNet, Bundle]:
    """A small DenseNet with random weights, all of its ordered sub-networks exported."""
    root = tmp_path_factory.mktemp("dense")
    net = random_net(DENSE, SIDE, 0)
    write_pictures(root / "pictures", net, side=SIDE, train=300, test=200)
    write_run(root / "runs" / "common-0", root / "pictures", DENSE, side=SIDE)
    specs = list(families.ordered(net.topology))
    return net, export_run(root / "runs" / "common-0", root / "exported" / "dense", specs)


@pytest.mark.slow
def test_all_subnetworks_of_a_densenet_are_exported(dense: tuple[StagedNet, Bundle]) -> None:
    net, bundle = dense
    entries = bundle.manifest.networks.values()
    assert {entry.spec for entry in entries} == {str(spec) for spec in families.ordered(net.topology)}
    assert len(entries) == 12
    assert max(entry.parity for entry in entries) <= TOLERANCE
    assert all(entry.correct == entry.correct_torch for entry in entries)
    smallest = next(e for e in entries if e.spec == str(net.topology.ordered((1, 1, 1))))
    assert smallest.parameters < bundle.main.parameters / 2
    assert open_bundle(bundle.path).topology == net.topology


def test_sliced_subnetworks_copy_no_weights(dense: tuple[StagedNet, Bundle]) -> None:
    """A listed file itself contains its statistics and the bounds of slices; every weight lies in the shared store."""
    net, bundle = dense
    for name, entry in bundle.manifest.networks.items():
        model = onnx.load(str(bundle.path / name), load_external_data=False)
        for tensor in model.graph.initializer:
            external = tensor.data_location == onnx.TensorProto.EXTERNAL
            assert external or tensor.name.endswith((".mean", ".var")) or tensor.data_type == onnx.TensorProto.INT64
        assert any(node.op_type == "Slice" for node in model.graph.node) == (entry.spec != str(net.topology.full))


def test_engine_evaluates_a_densenet_as_torch_does(dense: tuple[StagedNet, Bundle]) -> None:
    net, bundle = dense
    engine = Engine(bundle, device="cpu", threads=1)
    calibration, images = reference_inputs(bundle)
    labels = bundle.experiment.evaluation[1]
    specs = list(families.ordered(net.topology))
    for recalibrate in (True, False):
        *_, last = engine.evaluate(specs, recalibrate=recalibrate)
        assert len(last.results) == len(specs)
        for spec in specs:
            calibrated = recalibrated(net, spec, calibration) if recalibrate else net
            with torch.no_grad():
                expected = calibrated(images, spec).numpy()
            logits = engine.logits(spec, images[:50].numpy(), recalibrate=recalibrate)
            assert np.abs(logits - expected[:50]).max() <= TOLERANCE * np.abs(expected).max()
            assert last.results[spec].correct == int((expected.argmax(1) == labels).sum())


def test_standalone_files_of_a_densenet_need_nothing(dense: tuple[StagedNet, Bundle]) -> None:
    net, bundle = dense
    calibration, images = reference_inputs(bundle)
    spec = net.topology.ordered((1, 2, 1))
    model = onnx.load_from_string(Engine(bundle, device="cpu", threads=1).standalone(spec))
    with torch.no_grad():
        expected = recalibrated(net, spec, calibration)(images[:50], spec).numpy()
    assert np.abs(run_onnx(model, images[:50].numpy()) - expected).max() <= TOLERANCE * np.abs(expected).max()
    assert not any(node.op_type == "Slice" for node in model.graph.node)


@pytest.mark.slow
def test_export_command_on_a_densenet_run(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", random_net(DENSE, SIDE, 0), side=SIDE, train=60, test=40)
    write_run(tmp_path / "run", tmp_path / "pictures", DENSE, side=SIDE)
    out = tmp_path / "exported" / "dense"
    command = [
        sys.executable,
        "-m",
        "stimcore.export",
        str(tmp_path / "run"),
        "--out",
        str(out),
        "--subnets",
        "d1-2-1",
        "d2-3-2",
        *QUICKLY,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    networks = open_bundle(out / "common").manifest.networks
    assert set(networks) == {"main.onnx", "subnet-d1-2-1.onnx"}
    assert all(entry.parity <= TOLERANCE for entry in networks.values())
