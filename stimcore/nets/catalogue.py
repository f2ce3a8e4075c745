"""The catalogue: every network that has a name."""

import inspect
import re
from collections.abc import Callable
from functools import partial

from stimcore.errors import UsageError
from stimcore.nets import adapters, cifar_resnet, convnext, densenet, resnet, vit
from stimcore.nets.mobilenetv3 import mobilenetv3
from stimcore.nets.own import OWN_NAME, import_own
from stimcore.nets.patterns import PATTERNS
from stimcore.nets.staged import StagedNet

Builder = Callable[..., StagedNet]

NETWORKS: dict[str, Builder] = {
    "mobilenetv3": mobilenetv3,
    **{f"resnet{depth}": partial(cifar_resnet.cifar_resnet, depth) for depth in cifar_resnet.DEPTHS},
    **{f"resnet{depth}": partial(resnet.resnet, depth) for depth in resnet.DEPTHS},
    **{f"densenet{depth}": partial(densenet.densenet_of, depth) for depth in densenet.SIZES},
    "vit-tiny": vit.vit_tiny,
    "convnext-mini": convnext.convnext_mini,
}
"""Name -> function of `input_shape` and `num_classes` that builds the network."""

_WIDTH = re.compile(r"mobilenetv3-w(?P<width>[0-9]+(\.[0-9]+)?)\Z")
_CIFAR = re.compile(r"resnet(?P<depth>[1-9][0-9]{0,3})(-w(?P<width>[1-9][0-9]?))?\Z")


def native_shape(name: str) -> tuple[tuple[int, int, int], int]:
    """Return the image shape `[C, H, W]` and the number of classes that a network was published for.

    Example:
        >>> native_shape("resnet20"), native_shape("resnet50")
        (((3, 32, 32), 10), ((3, 224, 224), 1000))
    """
    small = _parse_cifar(name) or name.startswith(("vit-", "convnext-"))
    return ((3, 32, 32), 10) if small else ((3, 224, 224), 1000)


def _parse_cifar(name: str) -> dict[str, int]:
    """Return depth and width of a CIFAR ResNet, nothing for any other name.

    50 and 152 are also depths 6n + 2; these names belong to the ResNets for ImageNet.
    """
    match = _CIFAR.match(name)
    depth = 0 if match is None else int(match["depth"])
    if match is None or not cifar_resnet.exists(depth) or depth in resnet.DEPTHS:
        return {}
    return {"depth": depth, "width": int(match["width"] or 1)}


def build(name: str, *, input_shape: tuple[int, int, int], num_classes: int) -> StagedNet:
    """Build a network with random weights.

    Args:
        name: A key of `NETWORKS`, or a name as `PATTERNS` describes them.
        input_shape: `[C, H, W]` of its images.
        num_classes: Width of the logits.

    Raises:
        UsageError: There is no such network, or the name is that of something else than a function which builds one.

    Example:
        >>> net = build("resnet20", input_shape=(1, 28, 28), num_classes=10)
        >>> net.topology.sizes, net.topology.removable
        ((3, 3, 3), (1, 2, 3, 5, 6, 8, 9))
    """
    if name in NETWORKS:
        return NETWORKS[name](input_shape=input_shape, num_classes=num_classes)
    if cifar := _parse_cifar(name):
        return cifar_resnet.cifar_resnet(**cifar, input_shape=input_shape, num_classes=num_classes)
    if match := _WIDTH.match(name):
        return mobilenetv3(width=float(match["width"]), input_shape=input_shape, num_classes=num_classes)
    for from_name in (densenet.densenet_from_name, vit.vit_from_name, convnext.convnext_from_name):
        if (net := from_name(name, input_shape=input_shape, num_classes=num_classes)) is not None:
            return net
    if adapters.NAME.match(name):
        return adapters.build_named(name, input_shape=input_shape, num_classes=num_classes)
    if OWN_NAME.match(name):
        builder = import_own("network", name)
        _check_builder(name, builder)
        net = builder(input_shape=input_shape, num_classes=num_classes)
        if not isinstance(net, StagedNet):
            raise UsageError(
                f"{name} returned a {type(net).__name__}", allowed="a network that stimcore.nets.own.staged returned"
            )
        _check_made(name, net, input_shape, num_classes)
        return net
    raise UsageError(f"there is no network '{name}'", allowed=", ".join(NETWORKS) + "; " + PATTERNS)


def _check_made(name: str, net: StagedNet, input_shape: tuple[int, int, int], num_classes: int) -> None:
    """Check that a builder of the user made the network that it was asked for.

    Raises:
        UsageError: It is for other images, or has another number of logits.
    """
    if net.num_classes != num_classes:
        logits = f"{net.num_classes} logits"
        raise UsageError(f"{name} returned a network of {logits}", allowed=f"num_classes of them, here {num_classes}")
    if tuple(net.input_shape) != tuple(input_shape):
        made, asked = ("x".join(map(str, shape)) for shape in (net.input_shape, input_shape))
        raise UsageError(f"{name} returned a network for images of {made}", allowed=f"those of input_shape, here {asked}")


def _check_builder(name: str, builder: object) -> None:
    """Check that a definition of the user can be called as a builder is, before it is called.

    An error inside of it keeps its traceback, which shows the user where in their code it is.

    Raises:
        UsageError: It is no function, or one of other arguments.
    """
    found = f"the {type(builder).__name__} {name}"
    if callable(builder):
        try:
            signature = inspect.signature(builder)
            found = f"{name}{signature}"
            signature.bind(input_shape=(), num_classes=0)
        except (TypeError, ValueError):  # ValueError: a function in C that does not say what it takes
            pass
        else:
            return
    raise UsageError(
        f"{found} as a network", allowed=f"a function of input_shape and num_classes: {name}(*, input_shape, num_classes)"
    )


def is_own(name: str) -> bool:
    """Return whether a name stands for a network in a module of the user, which `build` would import.

    Example:
        >>> is_own("my_module:my_network"), is_own("resnet20"), is_own("torchvision:swin_t")
        (True, False, False)
    """
    return name not in NETWORKS and adapters.NAME.match(name) is None and OWN_NAME.match(name) is not None


def is_tested(name: str) -> bool:
    """Return whether the contract tests run networks of this name through the exporter.

    They do so for the catalogue's own; of the libraries' networks they try one per family.

    Example:
        >>> is_tested("resnet20"), is_tested("timm:convnext_atto"), is_tested("my_module:my_network")
        (True, False, False)
    """
    return adapters.NAME.match(name) is None and not is_own(name)
