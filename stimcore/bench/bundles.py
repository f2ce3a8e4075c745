"""A bundle with random weights and random images, with all files that engine and server read."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from stimcore import files
from stimcore.bundle import Bundle, Experiment, FileEntry, Manifest, open_bundle
from stimcore.bundle.bundle import STATISTICS
from stimcore.bundle.manifest import MAIN
from stimcore.data.normalise import Normalisation
from stimcore.data.preprocessing import Preprocessing
from stimcore.export.graphs import network_graph
from stimcore.nets.cost import Costs
from stimcore.nets.norms import batch_norms
from stimcore.nets.onnx_part import OPSET
from stimcore.nets.staged import StagedNet
from stimcore.train.seeds import generator


def random_bundle(folder: Path, net: StagedNet, *, images: int, calibration: int) -> Bundle:
    """Write the bundle `FOLDER/bench/random` and open it. Its accuracies mean nothing and were not measured.

    Args:
        folder: An existing folder.
        net: Changed in place: its batch norms get random weights, different ones, as trained networks have.
        images: Number of evaluation images.
        calibration: Number of calibration images.
    """
    rng = np.random.Generator(np.random.PCG64(0))
    for number, norm in enumerate(batch_norms(net)):
        draws = generator("bench norms", number)
        norm.weight.data.uniform_(0.5, 1.5, generator=draws)
        norm.bias.data.normal_(0, 0.1, generator=draws)
    path = folder / "bench" / "random"
    path.mkdir(parents=True)
    hashes = {}
    for name, count in (("calibration.npz", calibration), ("evaluation.npz", images)):
        pixels = rng.integers(0, 256, (count, *net.input_shape), dtype=np.uint8)
        np.savez(path.parent / name, pixels=pixels, labels=rng.integers(0, net.num_classes, count))
        hashes[name] = files.sha256(path.parent / name)
    channels = net.input_shape[0]
    experiment = Experiment(
        path=path.parent,
        dataset="random",
        licence="",
        classes=tuple(map(str, range(net.num_classes))),
        preprocessing=Preprocessing.without_resize(net.input_shape, Normalisation((0.5,) * channels, (0.25,) * channels)),
        topology=net.topology,
        hashes=hashes,
    )
    files.write_json(path.parent / "experiment.json", experiment.to_dict())
    model, parts = network_graph(net, "torchscript")  # quick, and needs no further package
    statistics = [t for t in model.graph.initializer if t.name.endswith((".mean", ".var"))]
    np.savez(path / STATISTICS, **{t.name: numpy_helper.to_array(t) for t in statistics})  # type: ignore[arg-type]  # numpy's stub
    onnx.save(model, str(path / MAIN))
    cost = Costs(net).main
    entry = FileEntry(
        sha256=files.sha256(path / MAIN),
        bytes=(path / MAIN).stat().st_size,
        spec="",  # no sub-network is listed, so that the engine measures all statistics itself
        accuracy_pct=0.0,
        correct=0,
        correct_torch=0,
        parity=0.0,
        agreement=0.0,
        parameters=cost.parameters,
        macs=cost.macs,
        checked_images=images,
    )
    manifest = Manifest(
        topology=net.topology,
        method="random",
        recipe={},
        options={},
        seed=0,
        label="random weights",
        spec=None,
        checkpoint_sha256="",
        opset=OPSET,
        versions={},
        parts=parts,
        hashes={STATISTICS: files.sha256(path / STATISTICS)},
        networks={MAIN: entry},
        images=images,
        experiment_sha256=experiment.sha256,
    )
    files.write_json(path / "manifest.json", manifest.to_dict())
    return open_bundle(path, verify=False)
