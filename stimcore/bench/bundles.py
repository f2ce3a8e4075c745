"""A bundle with random weights and random images: as much of one as the engine and the server read."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from stimcore import files
from stimcore.bundle import Bundle, Experiment, FileEntry, Manifest, open_bundle
from stimcore.export.graphs import OPSET, whole
from stimcore.nets.cost import Costs
from stimcore.nets.norms import batch_norms
from stimcore.nets.staged import StagedNet
from stimcore.train.seeds import generator


def random_bundle(folder: Path, net: StagedNet, *, images: int, calibration: int) -> Bundle:
    """Writes `FOLDER/bench/random` and opens it. Its accuracies mean nothing, and nothing of it was verified.

    Args:
        folder: Where it goes.
        net: Its batch norms get random statistics, different ones, as trained networks have.
        images: Evaluation images.
        calibration: Calibration images.
    """
    rng = np.random.Generator(np.random.PCG64(0))
    for number, norm in enumerate(batch_norms(net)):
        own = generator("bench norms", number)
        norm.weight.data.uniform_(0.5, 1.5, generator=own)
        norm.bias.data.normal_(0, 0.1, generator=own)
    path = folder / "bench" / "random"
    path.mkdir(parents=True)
    hashes = {}
    for name, count in (("calibration.npz", calibration), ("evaluation.npz", images)):
        pixels = rng.integers(0, 256, (count, *net.input_shape), dtype=np.uint8)
        np.savez(path.parent / name, pixels=pixels, labels=rng.integers(0, net.num_classes, count))
        hashes[name] = files.sha256(path.parent / name)
    Experiment(
        path=path.parent,
        dataset="random",
        licence="",
        classes=tuple(map(str, range(net.num_classes))),
        mean=(0.5,) * net.input_shape[0],
        std=(0.25,) * net.input_shape[0],
        image_shape=net.input_shape,
        topology=net.topology,
        hashes=hashes,
    ).write()
    model, parts = whole(net)
    held = [t for t in model.graph.initializer if t.name.endswith((".mean", ".var"))]
    np.savez(path / "statistics.npz", **{t.name: numpy_helper.to_array(t) for t in held})  # type: ignore[arg-type]  # numpy's stub
    onnx.save(model, str(path / "main.onnx"))
    cost = Costs(net).main
    entry = FileEntry(
        sha256=files.sha256(path / "main.onnx"),
        bytes=(path / "main.onnx").stat().st_size,
        spec="",  # nothing is listed, so that no stored statistics are taken over
        accuracy_pct=0.0,
        correct=0,
        correct_torch=0,
        parity=0.0,
        agreement=0.0,
        parameters=cost.parameters,
        macs=cost.macs,
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
        hashes={},
        networks={"main.onnx": entry},
        images=images,
    )
    files.write_json(path / "manifest.json", manifest.to_dict())
    return open_bundle(path, verify=False)
