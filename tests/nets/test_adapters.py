"""torchvision's and timm's networks by name: every family's adapter on a tiny network, and the names that commands take."""

import copy
import dataclasses
import importlib
import io
import random
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import convnext as tv_convnext
from torchvision.models import efficientnet as tv_efficientnet
from torchvision.models import mobilenetv3 as tv_mobilenetv3
from torchvision.models import regnet as tv_regnet
from torchvision.models import swin_transformer as tv_swin

from stimcore.bench.curves import striped_dataset
from stimcore.errors import Unavailable, UsageError
from stimcore.methods.base import StepContext
from stimcore.methods.table import METHODS, make
from stimcore.nets import __main__ as command
from stimcore.nets.adapters import TIMM, TORCHVISION, adapt
from stimcore.nets.catalogue import build, is_own
from stimcore.nets.staged import StagedNet
from stimcore.recipes.catalogue import recipe
from stimcore.train.request import TrainRequest
from stimcore.train.seeds import layers_seeded
from stimcore.train.settings import Settings
from stimcore.train.train_run import train_run
from tests.nets import test_contracts, test_onnx
from tests.nets.conftest import lively
from tests.nets.test_contracts import one_thread as one_thread

# the contracts of the catalogue's networks hold for these too: they run here with this file's fixtures
test_the_full_spec = test_contracts.test_the_full_spec_is_the_plain_network_bit_for_bit
test_a_subnetwork = test_contracts.test_a_subnetwork_is_the_network_of_only_its_blocks
test_gradients = test_contracts.test_deleted_blocks_get_no_gradient
test_keys = test_contracts.test_state_dict_has_the_keys_of_the_plain_network
test_costs = test_contracts.test_costs_add_up
test_in_onnxruntime = test_onnx.test_every_family_in_onnxruntime

SIDE = 16
CLASSES = 5


def tv_resnext() -> Any:
    return models.ResNet(models.resnet.Bottleneck, [1, 2, 1, 1], num_classes=CLASSES, groups=4, width_per_group=4)


def tv_regnet_tiny() -> Any:
    params = tv_regnet.BlockParams([1, 1, 2, 1], [8, 8, 16, 16], [8, 8, 8, 8], [1, 1, 1, 1], [2, 1, 2, 2], 0.25)
    return models.RegNet(params, num_classes=CLASSES)


def tv_convnext_tiny() -> Any:
    settings = [tv_convnext.CNBlockConfig(8, 16, 2), tv_convnext.CNBlockConfig(16, None, 2)]
    return models.ConvNeXt(settings, num_classes=CLASSES)


def tv_efficientnet_tiny() -> Any:
    settings = [
        tv_efficientnet.FusedMBConvConfig(2, 3, 2, 8, 8, 2),
        tv_efficientnet.MBConvConfig(2, 3, 2, 8, 16, 2, 1.0, 1.0),
    ]
    return models.EfficientNet(settings, 0.1, stochastic_depth_prob=0.0, num_classes=CLASSES, last_channel=16)


def tv_mobilenetv3_tiny() -> Any:
    config = partial(tv_mobilenetv3.InvertedResidualConfig, dilation=1, width_mult=1.0)
    settings = [config(8, 3, 8, 8, True, "RE", 1), config(8, 3, 16, 16, False, "HS", 2), config(16, 3, 16, 16, False, "HS", 1)]
    return models.MobileNetV3(settings, 16, num_classes=CLASSES)


def tv_swin_tiny(block: Callable[..., nn.Module] = tv_swin.SwinTransformerBlock) -> Any:
    merging = tv_swin.PatchMerging if block is tv_swin.SwinTransformerBlock else tv_swin.PatchMergingV2
    return models.SwinTransformer(
        [2, 2], 8, [2, 2], [1, 2], [2, 2], stochastic_depth_prob=0.0, num_classes=CLASSES, block=block, downsample_layer=merging
    )


SMALL: dict[str, dict[str, Any]] = {
    "resnet10t": {"layers": (1, 2, 1, 1), "channels": (8, 16, 16, 16), "stem_width": 4},
    "resnetv2_50": {"layers": (1, 2), "channels": (16, 16), "stem_chs": 8},
    "convnext_atto": {"depths": (1, 2, 1, 1), "dims": (8, 16, 16, 16), "patch_size": 2, "output_stride": 8},
    "mobilenetv3_small_050": {},
    "regnety_002": {},
    "swin_tiny_patch4_window7_224": {
        "img_size": SIDE,
        "patch_size": 2,
        "window_size": 2,
        "embed_dim": 8,
        "depths": (2, 2),
        "num_heads": (1, 2),
    },
    "deit_tiny_distilled_patch16_224": {"img_size": SIDE, "patch_size": 8, "embed_dim": 16, "depth": 4, "num_heads": 2},
    "densenet121": {"growth_rate": 4, "block_config": (2, 2)},
    "beit_base_patch16_224": {"img_size": SIDE, "patch_size": 8, "embed_dim": 16, "depth": 4, "num_heads": 2},
    "cait_xxs24_224": {"img_size": SIDE, "patch_size": 8, "embed_dim": 16, "depth": 4, "num_heads": 2},
    # no class of the table: it has the usual children
    "inception_next_atto": {"depths": (1, 2), "dims": (16, 32)},
}
"""Name in timm -> options that make it small."""

TINY: dict[str, Callable[[], Any]] = {
    "tv-resnext": tv_resnext,
    "tv-regnet": tv_regnet_tiny,
    "tv-convnext": tv_convnext_tiny,
    "tv-efficientnet": tv_efficientnet_tiny,
    "tv-mobilenetv2": partial(
        models.MobileNetV2, num_classes=CLASSES, width_mult=0.25, inverted_residual_setting=[[1, 16, 2, 1], [2, 32, 2, 2]]
    ),
    "tv-mobilenetv3": tv_mobilenetv3_tiny,
    "tv-swin": tv_swin_tiny,
    "tv-swin-v2": partial(tv_swin_tiny, tv_swin.SwinTransformerBlockV2),
    "tv-vit": partial(models.VisionTransformer, SIDE, 8, 4, 2, 16, 32, num_classes=CLASSES),
    "tv-densenet": partial(models.DenseNet, 4, (2, 2), 8, num_classes=CLASSES),
    **{f"timm-{name}": partial(timm.create_model, name, num_classes=CLASSES, **options) for name, options in SMALL.items()},
}
"""Name -> a network of a family, as small as the family's class makes it."""


@lru_cache(maxsize=1)
def _built(name: str) -> StagedNet:
    with layers_seeded(0, name):
        net = adapt(TINY[name](), name=name, input_shape=(3, SIDE, SIDE), num_classes=CLASSES)
        return lively(net)


SLOW = {
    "tv-regnet",
    "tv-swin-v2",
    "timm-swin_tiny_patch4_window7_224",
    "timm-regnety_002",
    "timm-resnetv2_50",
    "timm-mobilenetv3_small_050",
    "timm-resnet10t",
    "timm-densenet121",
    "timm-beit_base_patch16_224",
    "timm-inception_next_atto",
}
"""Networks whose families another one of the list stands for in the default suite."""


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in TINY])
def net(request: pytest.FixtureRequest) -> StagedNet:
    """A tiny network of every family in turn; tests must not change it."""
    return _built(request.param)


@pytest.fixture(scope="module")
def family(net: StagedNet) -> StagedNet:
    """The same networks, for tests that ask for one per kind of block."""
    return net


@pytest.fixture
def images() -> Callable[[int], Tensor]:
    return lambda count: torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_every_method_makes_a_step_or_refuses_before_the_first(net: StagedNet, images: Callable[[int], Tensor]) -> None:
    """Self distillation needs two stages and stochastic depth a branch; nothing else is refused."""
    for name in METHODS:
        trained, method = copy.deepcopy(net).train(), make(name, {})
        with layers_seeded(1):
            auxiliary = method.make_auxiliary(trained)
            batch = StepContext(images=images(4), labels=torch.arange(4), rng=random.Random(0))
            losses = method.step(trained, auxiliary, batch)
        assert all(torch.isfinite(value) for value in losses.values()), name
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in trained.parameters()), name
    if net.topology.channels is None:
        assert set(net.residuals) == set(net.topology.removable)


def test_every_adapter_has_a_network_here() -> None:
    modules = [make() for make in TINY.values()]
    tested = {
        (type(module).__module__.startswith("timm."), kind.__name__) for module in modules for kind in type(module).__mro__
    }
    missing = [kind for kind in TORCHVISION if (False, kind) not in tested]
    # big or slow: tried by hand, see docs/networks.md
    assert missing == ["MNASNet", "MaxVit"]
    missing = [kind for kind in TIMM if (True, kind) not in tested]
    assert missing == ["EfficientNet", "SwinTransformerV2", "MetaFormer", "MlpMixer"]


def test_the_docs_call_no_family_refused_that_has_an_adapter() -> None:
    text = (Path(__file__).parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")
    refused = re.search(r"their\s+family\s+had\s+no\s+adapter\s+\(([^;]+);", text)
    assert refused is not None
    names = set(re.findall(r"\w+", refused[1])) - {"and", "others"}
    assert len(names) >= 5
    assert not {name.lower() for name in names} & {name.lower() for name in TIMM}


def test_a_stage_begins_where_the_shape_changes_and_a_transformer_has_four() -> None:
    assert _built("tv-convnext").topology.sizes == (2, 3)  # the downsampling is the first block of the second stage
    assert _built("tv-convnext").topology.removable == (1, 2, 4, 5)
    assert _built("tv-swin").topology.fixed == {3: "it changes the resolution, so there is no skip path around it"}
    assert _built("tv-vit").topology.sizes == (2, 2)
    deep = models.VisionTransformer(SIDE, 8, 14, 2, 16, 16, num_classes=CLASSES)
    assert adapt(deep, name="deep", input_shape=(3, SIDE, SIDE), num_classes=CLASSES).topology.sizes == (3, 4, 3, 4)


@pytest.mark.parametrize(
    ("name", "sizes"), [("torchvision:mobilenet_v2", (1, 2, 3, 4, 3, 3, 1)), ("timm:vit_tiny_patch16_224", (3,) * 4)]
)
def test_names_of_the_libraries(name: str, sizes: tuple[int, ...]) -> None:
    net = build(name, input_shape=(1, 32, 32), num_classes=4)
    assert net.topology.network == name
    assert net.topology.sizes == sizes
    assert net.eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 4)
    assert not is_own(name)


@pytest.mark.parametrize("name", ["torchvision:efficientnet_b0", "timm:swin_tiny_patch4_window7_224"])
def test_own_stochastic_depth_of_a_network_is_off(name: str) -> None:
    """Every method would be compared with that method and stochastic depth."""
    net = build(name, input_shape=(3, 32, 32), num_classes=4).train()
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.eval()
    for dropout in (module for module in net.modules() if isinstance(module, nn.Dropout)):
        dropout.p = 0.0
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(net(x), net(x))


def test_a_librarys_network_is_exported_once_before_it_trains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody tested it: what can't be exported must not be found out after the training."""

    def refuse(net: StagedNet) -> None:
        raise UsageError(f"{net.topology.network} was checked")

    monkeypatch.setattr("stimcore.train.train_run.check_exportable", refuse)
    plan = dataclasses.replace(recipe("resnet20-fashion"), network="torchvision:mobilenet_v3_small", watch=())
    request = TrainRequest(recipe=plan, method="common", folder=tmp_path / "run", name="run", settings=Settings(progress=False))
    with pytest.raises(UsageError, match="torchvision:mobilenet_v3_small was checked"):
        train_run(request, striped_dataset(200, 12))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        (
            "torchvision:resnet19",
            (3, 32, 32),
            "torchvision has no network 'resnet19'; allowed: resnet1.*and others, [0-9]+ in all",
        ),
        ("timm:resnet19", (3, 32, 32), "timm has no network 'resnet19'; allowed: "),
        (
            "torchvision:squeezenet1_1",
            (3, 32, 32),
            "is a SqueezeNet, a family without an adapter; allowed: ConvNeXt",
        ),
        ("timm:dla46_c", (3, 32, 32), "is a DLA, a family without an adapter; allowed: .*with stem, stages and head"),
        ("torchvision:vit_b_16", (3, 28, 28), "torchvision:vit_b_16 can't be made for images of 3x28x28: "),
        ("torchvision:vit_b_16", (3, 32, 48), "images of 32x48 for torchvision:vit_b_16; allowed: square images"),
        ("timm:caformer_s18", (3, 64, 64), "timm:caformer_s18: its stem and blocks don't run one after the other: "),
        ("timm:convnext_atto", (1, 28, 28), "timm:convnext_atto: the network does not accept images of 1x28x28: "),
    ],
)
def test_what_does_not_exist_or_fit_is_refused_in_one_sentence(name: str, shape: tuple[int, int, int], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as refused:
        build(name, input_shape=shape, num_classes=3)
    assert "\n" not in str(refused.value)


def test_timm_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError):
        importlib.import_module("timm")
    with pytest.raises(Unavailable, match="timm:resnet10t needs timm, which is not installed. Run: python -m pip install timm"):
        build("timm:resnet10t", input_shape=(3, 32, 32), num_classes=3)


def test_the_command_shows_a_network_of_a_library() -> None:
    out = io.StringIO()
    with redirect_stdout(out):
        assert command.main(["timm:convnext_atto", "--shape", "3x64x64", "--classes", "10"]) == 0
    assert out.getvalue().splitlines()[:2] == ["timm:convnext_atto: images 3x64x64, 10 classes", "4 stages with 2-3-7-3 blocks"]


@pytest.mark.parametrize(
    ("name", "part", "key", "inside"),
    [
        ("tv-vit", "stem", "class_token", "class_token"),
        ("timm-cait_xxs24_224", "head", "cls_token", "piece.cls_token"),
        ("timm-cait_xxs24_224", "stem", "pos_embed", "piece.pos_embed"),
    ],
)
def test_weights_of_a_module_and_of_its_pieces_stay_one(name: str, part: str, key: str, inside: str) -> None:
    """A class token belongs to the network and is used in stem or head, also on another device and in another precision."""

    def same(net: StagedNet) -> bool:
        own: Any = net.module.get_parameter(key)
        return getattr(net, part).get_parameter(inside) is own

    net = adapt(TINY[name](), name=name, input_shape=(3, SIDE, SIDE), num_classes=CLASSES)
    assert same(net)
    double = net.double()
    assert getattr(double, part).get_parameter(inside).dtype == torch.float64
    assert same(double)
    meta = double.to("meta")
    assert {parameter.device.type for part in meta.route(meta.topology.full) for parameter in part.module.parameters()} == {
        "meta"
    }
    assert same(meta)


def test_a_class_token_that_joins_in_the_head_belongs_to_no_other_part() -> None:
    """CaiT's does; with `--init` for other classes, the weights of the head are those that may not fit."""
    net = _built("timm-cait_xxs24_224")
    assert [key for key, _ in net.stem.named_parameters() if "token" in key] == []
    assert [key for key, _ in net.head.named_parameters() if key.count(".") == 1] == ["piece.cls_token"]


def test_a_network_that_lacks_what_its_family_has_is_refused_in_one_sentence() -> None:
    """A class derived from a family's, or another version of a library, may name its children or parameters anew."""
    without_child: Any = timm.create_model("resnet10t", num_classes=CLASSES, **SMALL["resnet10t"])
    del without_child.bn1
    without_token: Any = TINY["timm-cait_xxs24_224"]()
    del without_token.cls_token
    without_blocks: Any = TINY["timm-deit_tiny_distilled_patch16_224"]()
    del without_blocks.blocks
    without_pool: Any = TINY["tv-resnext"]()
    del without_pool.avgpool
    for module in (without_child, without_token, without_blocks, without_pool):
        with pytest.raises(UsageError, match="mine.*(does not accept|lacks what its family has)") as refused:
            adapt(module, name="mine", input_shape=(3, SIDE, SIDE), num_classes=CLASSES)
        assert "\n" not in str(refused.value)
