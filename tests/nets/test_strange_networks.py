"""Networks of users: what trains also exports with parity, or is refused before the first epoch with the block's name."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.nn import functional

from stimcore import cli
from stimcore.bench.curves import striped_images as pictures
from stimcore.bundle import open_bundle
from stimcore.data.images import calibration_batches
from stimcore.engine.engine import Engine
from stimcore.engine.graph.main_graph import MainGraph
from stimcore.engine.graph.measure import measuring_graph
from stimcore.engine.prefix_tree import Unit
from stimcore.errors import UsageError
from stimcore.export import __main__ as export
from stimcore.export.graphs import network_graph
from stimcore.nets.catalogue import build
from stimcore.nets.exportable import check_exportable
from stimcore.nets.norms import batch_norms, give_running_statistics
from stimcore.nets.onnx_part import _attention
from stimcore.nets.probe import why_fixed
from stimcore.reference.calibrate import recalibrated
from stimcore.runs.trained_run import open_run
from stimcore.train import __main__ as train
from tests.bundles import QUICKLY, reference_inputs
from tests.heavy import all_slow_but
from tests.nets import strange_networks
from tests.train.conftest import write_folder

HERE = "tests.nets.strange_networks"
SHAPE = (1, 12, 12)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One training image more than a calibration batch: the last batch would hold one image."""
    root = tmp_path_factory.mktemp("images")
    write_folder(root, pictures(257, side=12), "train")
    write_folder(root, pictures(30, side=12, seed=1), "test")
    return root


def run(*argv: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.run(train.main, argv)
    return int(ended.value.code or 0)


@pytest.mark.parametrize("network", all_slow_but(["norms", "attention", "unused"], "attention"))
def test_what_trains_also_exports(images: Path, tmp_path: Path, network: str, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir, out = tmp_path / "run", tmp_path / "exported" / "own"
    argv = ["resnet20-fashion", "--method", "stimulative", "--network", f"{HERE}:{network}", "--dataset", f"folder:{images}"]
    argv += ["--train-per-class", "0", "--epochs", "1", "--batch-size", "64", "--run-dir", str(run_dir), "--name", "own"]
    assert run(*argv, "--device", "cpu", "--quiet") == 0, capsys.readouterr().err
    quickly = () if network == "norms" else QUICKLY
    assert export.main([str(run_dir), "--out", str(out), "--standalone", "--trust-code", "--quiet", *quickly]) == 0, (
        capsys.readouterr().err
    )
    bundle = open_bundle(out / "own")
    assert max(entry.parity for entry in bundle.manifest.networks.values()) < 1e-4
    net = open_run(run_dir, trust_code=True).net
    assert len(bundle.manifest.networks) == net.topology.num_blocks
    calibration, evaluation = reference_inputs(bundle)
    assert [batch.stop - batch.start for batch in calibration_batches(len(calibration))] == [257]
    engine, full = Engine(bundle, device="cpu", threads=1), net.topology.full
    # not listed, so that the engine calibrates it itself
    spec = net.topology.parse("-".join(map(str, full.blocks[:1] + full.blocks[2:]))) if 2 in net.topology.removable else full
    with torch.no_grad():
        expected = recalibrated(net, spec, calibration)(evaluation, spec).numpy()
    assert np.abs(engine.logits(spec, evaluation.numpy()) - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        ("twice", "block 2 uses the batch norm 'norm' 2 times; allowed: one use of every batch norm. Give each place"),
        ("shared", "block 1 and block 2 share a batch norm; allowed: one use of every batch norm"),
        (
            "functional_norm",
            "block 2 computes 1 batch norms in ONNX and has 0 as modules; allowed: batch norms that are modules",
        ),
        ("tracked_instance_norm", "block 2 (can't be exported to ONNX: |computes 1 batch norms in ONNX)"),
        ("spectral", "block 2 can't be exported to ONNX: .*svd"),
        ("random", "block 2 computes something else in ONNX than in torch. Is there something random in it"),
    ],
)
def test_what_can_not_be_exported_is_refused_with_the_name_of_the_block(network: str, sentence: str) -> None:
    net = build(f"{HERE}:{network}", input_shape=SHAPE, num_classes=3).train()
    with pytest.raises(UsageError, match=sentence) as refused:
        check_exportable(net)
    assert "\n" not in str(refused.value)
    assert net.module.training
    assert all(layer.training for layer in net.module.modules())


def test_the_number_of_images_is_no_constant_of_the_current_exporter() -> None:
    check_exportable(build(f"{HERE}:counting", input_shape=SHAPE, num_classes=3))


def test_it_is_refused_before_the_first_epoch(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["resnet20-fashion", "--method", "common", "--network", f"{HERE}:twice", "--dataset", f"folder:{images}"]
    argv += ["--train-per-class", "0", "--run-dir", str(tmp_path / "run"), "--device", "cpu", "--quiet"]
    assert run(*argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: block 2 uses the batch norm 'norm' 2 times")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_running_statistics_change_nothing_in_training() -> None:
    bare = nn.BatchNorm2d(4, track_running_stats=False)
    given = nn.BatchNorm2d(4, track_running_stats=False)
    give_running_statistics(given)
    x = torch.rand(5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(bare(x), given(x))
    assert given.running_mean is not None
    assert not torch.equal(given.running_mean, torch.zeros(4))
    given.eval()
    assert torch.allclose(given(x[:1]), given(x)[:1], atol=1e-6)  # an answer no longer depends on the rest of the batch
    net = build(f"{HERE}:norms", input_shape=SHAPE, num_classes=3)
    assert all(norm.running_mean is not None for norm in batch_norms(net))


def test_a_trained_norm_without_affine_hides_no_shortcut() -> None:
    block = strange_networks.Branch(nn.Sequential(strange_networks.conv(), nn.BatchNorm2d(4, affine=False)))
    x = torch.rand(8, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    block(x)
    assert why_fixed(block, x) is None


def test_calibration_batches_leave_no_image_alone() -> None:
    for num in (1, 2, 255, 256, 257, 258, 511, 512, 513, 2048):
        batches = calibration_batches(num)
        assert [i for batch in batches for i in range(num)[batch]] == list(range(num))
        sizes = [len(range(num)[batch]) for batch in batches]
        assert max(sizes) <= 257
        assert num == 1 or min(sizes) > 1


def test_decomposed_norms_equal_those_of_onnxruntime() -> None:
    """GPU providers have no training mode of batch norms: there they are written as reductions, whatever the rank."""
    net = build(f"{HERE}:norms", input_shape=SHAPE, num_classes=3).eval()
    model, parts = network_graph(net, "torchscript")
    graph = MainGraph(model, parts, net.topology)
    assert {len(model.graph.input), len(graph.norms(parts[-1].name))} == {1, 3}  # three of them in the head, of two ranks
    images = np.random.Generator(np.random.PCG64(0)).random((6, *SHAPE), dtype=np.float32)
    unit = Unit.whole(net.topology.route(net.topology.full))
    results = []
    for decompose in (False, True):
        measured = measuring_graph(graph, unit, decompose=decompose)
        results.append(ort.InferenceSession(measured.model.SerializeToString()).run(None, {"in": images}))
    for one, other in zip(*results, strict=True):
        assert np.abs(one - other).max() < 1e-4


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, "bool", "float"])
def test_written_out_attention_is_torchs(causal: bool, mask: str | None) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.rand(2, heads, 5, 4, generator=generator) for heads in (4, 2, 2))
    masks = {None: None, "bool": torch.rand(5, 5, generator=generator) > 0.2, "float": torch.rand(5, 5, generator=generator)}
    if causal and mask is not None:
        return  # torch refuses both
    attn_mask = masks[mask]
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask |= torch.eye(5, dtype=torch.bool)
    expected = functional.scaled_dot_product_attention(q, k, v, attn_mask, is_causal=causal, scale=0.3, enable_gqa=True)
    assert torch.allclose(_attention(q, k, v, attn_mask, is_causal=causal, scale=0.3, enable_gqa=True), expected, atol=1e-6)
