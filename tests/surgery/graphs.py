"""ONNX files for tests: networks of torchvision and timm through both of torch's exporters, and small graphs made by hand."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn
from torchvision.models import ConvNeXt, VisionTransformer, mobilenet_v2, resnet18
from torchvision.models.convnext import CNBlockConfig

from stimcore.bundle import Bundle
from stimcore.data.folder import image_folder
from stimcore.surgery.bundle import ImportedNetwork, import_network, write_bundle
from stimcore.surgery.reading import read_onnx
from stimcore.train.seeds import layers_seeded

SIDE, CLASSES = 32, 5


def vision_transformer() -> nn.Module:
    net = VisionTransformer(
        image_size=SIDE, patch_size=8, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=CLASSES
    )
    nn.init.normal_(net.heads.head.weight, std=0.3)  # torchvision begins with zeros, with which all answers are the same
    network: nn.Module = net
    return network


def convnext() -> nn.Module:
    stages = [CNBlockConfig(16, 32, 2), CNBlockConfig(32, 64, 2), CNBlockConfig(64, None, 2)]
    network: nn.Module = ConvNeXt(stages, num_classes=CLASSES, layer_scale=0.5)
    return network


def timm_network(name: str, **options: Any) -> nn.Module:
    import timm

    net: nn.Module = timm.create_model(name, num_classes=CLASSES, **options)
    return net


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: resnet18(num_classes=CLASSES),
    "mobilenet_v2": lambda: mobilenet_v2(num_classes=CLASSES, width_mult=0.25),
    "convnext": convnext,
    "vit": vision_transformer,
    "timm-mobilenetv3": lambda: timm_network("mobilenetv3_small_050"),
    "timm-convnext": lambda: timm_network("convnext_atto", ls_init_value=0.5),
}


def export(name: str, path: Path, *, dynamo: bool, keep_norms: bool = False, opset: int = 18) -> Path:
    """Write a network with random weights; its batch norms differ from each other."""
    with layers_seeded(0, "net"):
        net = NETWORKS[name]().eval()
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5)
            norm.momentum = 1.0
        net.train(bool(norms))(torch.rand(40, 3, SIDE, SIDE))  # statistics with which nothing vanishes
    net.eval()
    example = (torch.rand(2, 3, SIDE, SIDE),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            torch.onnx.export(net, example, path, dynamo=True, dynamic_shapes=({0: "N"},), external_data=True, verbose=False)
        else:
            torch.onnx.export(
                net,
                example,
                path,
                dynamo=False,
                opset_version=opset,
                input_names=["x"],
                output_names=["y"],
                dynamic_axes={"x": {0: "N"}},
                training=torch.onnx.TrainingMode.PRESERVE if keep_norms else torch.onnx.TrainingMode.EVAL,
                do_constant_folding=not keep_norms,
            )
    return path


def write_pictures(folder: Path, *, side: int = SIDE, train: int = 60, test: int = 80) -> Path:
    generator = np.random.Generator(np.random.PCG64(0))
    for part, count in (("train", train), ("test", test)):
        for i in range(count):
            coarse = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8))
            target = folder / part / f"class{i % CLASSES}"
            target.mkdir(parents=True, exist_ok=True)
            coarse.resize((side, side), Image.Resampling.BICUBIC).save(target / f"{i:04}.png")
    return folder


class HandMade:
    """A graph on images `[N, 3, 8, 8]`, node by node; weights are drawn."""

    def __init__(self, opset: int = 18) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self.opset, self._generator = opset, np.random.Generator(np.random.PCG64(1))

    def weight(self, *shape: int) -> str:
        return self.constant(self._generator.normal(0, 0.3, shape).astype(np.float32))

    def constant(self, value: NDArray[np.float32] | NDArray[np.int64]) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def add(self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, domain=domain, **attributes))
        return names[0]

    def conv(self, x: str, out: int = 4, of: int = 4) -> str:
        return self.add("Conv", x, self.weight(out, of, 3, 3), pads=[1, 1, 1, 1])

    def head(self, x: str, channels: int = 4) -> str:
        flat = self.add("Flatten", self.add("GlobalAveragePool", x))
        return self.add("Gemm", flat, self.weight(channels, CLASSES))

    def save(self, path: Path, output: str, batch: str | int = "N") -> Path:
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.weights,
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
        return path


__all__ = ["CLASSES", "NETWORKS", "SIDE", "HandMade", "export", "write_pictures"]


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


def imported(path: Path, pictures: Path, out: Path) -> tuple[ImportedNetwork, Bundle]:
    """The network of a file, and the bundle that an import makes of it and a folder of pictures."""
    file = read_onnx(path)
    network, dataset = import_network(file, file.image_shape()), image_folder(pictures)
    return network, write_bundle(network, dataset, dataset.normalisation, out)
