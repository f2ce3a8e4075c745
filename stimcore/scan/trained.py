"""Bundles of networks that torch has: a run folder, or a network by name with weights."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from stimcore.bundle import Bundle, open_bundle
from stimcore.data.normalise import IMAGENET, Normalisation, per_channel
from stimcore.errors import UsageError
from stimcore.export.request import ExportRequest, prepare
from stimcore.nets import adapters
from stimcore.nets.catalogue import build, is_own, native_shape
from stimcore.runs.convert import ImageFormat, convert, image_format
from stimcore.runs.run import Run
from stimcore.runs.weights import Weights
from stimcore.scan.source import EXPECTED, NETWORK, ScanSource
from stimcore.train.init import read_initial
from stimcore.train.seeds import layers_seeded

RUN = "run"
"""Folder in a scan's folder that holds the run which was made of weights."""


def bundle_of_trained(source: ScanSource, report: Callable[[str], None]) -> Bundle:
    """Return the bundle of a run folder, or of a network by name; see `stimcore.scan.opening.bundle_of`."""
    if source.path.is_dir():
        source.refuse("a run folder", ("--data-root", "--images"))
        folder, trusted = source.path, source.trust_code
    else:
        _check_network(source.network)
        if source.dataset is None:
            raise UsageError(f"{source.network} without --dataset", allowed="--dataset folder:PATH, or the name of a data set")
        # a module that the user names on the command line is the user's
        folder, trusted = _run_of_weights(source, report), True
    request = ExportRequest(
        run_dir=folder,
        out=source.folder / NETWORK,
        subnets=("main",),
        data_root=source.data_root,
        trust_code=trusted,
        max_images=source.images,
    )
    source.folder.mkdir(parents=True, exist_ok=True)
    with _one_thread():
        exporter, specs = prepare(request)
        exporter.export(specs, lambda done, total, line: report(line))
    return open_bundle(exporter.target)


def _check_network(name: str) -> None:
    """Refuse a name that is none before anything is looked for: most often it is a mistyped path.

    Networks of other libraries and of the user are found, or not, where they are built for the images.

    Raises:
        UsageError: There is no network of this name.
    """
    if is_own(name) or adapters.NAME.match(name):
        return
    shape, classes = native_shape(name)
    try:
        build(name, input_shape=shape, num_classes=classes)
    except UsageError as reason:
        raise UsageError(f"there is no network, folder or file {name}", allowed=f"{EXPECTED}: {reason.allowed}") from reason


def _run_of_weights(source: ScanSource, report: Callable[[str], None]) -> Path:
    """Return a run folder of a network by name; one of the same weights that is there already is used again."""
    assert source.dataset is not None
    images = image_format(source.network, source.dataset, source.data_root)
    normalisation = Normalisation(
        per_channel("--mean", source.mean, IMAGENET.mean, images.shape[0]),
        per_channel("--std", source.std, IMAGENET.std, images.shape[0]),
    )
    if source.init is None:
        weights = _as_built(source.network, images)
    else:
        weights = read_initial(source.init, source.network)
    for note in images.notes:
        report(f"note: {note}")
    folder = source.folder / RUN
    if (folder / "run.json").exists():
        run = Run.read(folder)
        present = (run.network, run.dataset, run.source, run.mean, run.std)
        if present == (source.network, source.dataset, weights.source, normalisation.mean, normalisation.std):
            return folder
        raise UsageError(
            f"{source.folder} holds the scan of {run.network} with weights of {run.source}", todo="Give another --out."
        )
    converted = convert(weights, source.network, images, normalisation, folder)
    report(f"{source.network} with weights of {converted.trained.run.source}")
    return folder


def _as_built(network: str, images: ImageFormat) -> Weights:
    """Return the weights with which a function of the user builds its network.

    Raises:
        UsageError: The network is one whose weights would be random.
    """
    if not is_own(network):
        # a name that another library does not have is refused here, in its own words
        build(network, input_shape=images.shape, num_classes=images.num_classes)
        raise UsageError(f"{network} has no weights", allowed="--init with a run folder, a file of weights or torchvision:NAME")
    with layers_seeded(0, "net"):
        net = build(network, input_shape=images.shape, num_classes=images.num_classes)
    tensors = net.module.state_dict()
    digest = hashlib.sha256()
    for key, value in sorted(tensors.items()):
        digest.update(key.encode())
        digest.update(value.contiguous().cpu().numpy().tobytes())
    return Weights(name=network, tensors=tensors, source=f"{network} as it is built (sha256 {digest.hexdigest()})")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute on one thread, as exports do: what is compared with it then has one order of additions."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
