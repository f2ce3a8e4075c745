"""Makes a bundle of what a scan is given.

Run folders and networks by name need torch: the module that handles them is imported by name when one of them is given.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from stimcore import cli
from stimcore.bundle import Bundle, open_bundle
from stimcore.data.subset import stratified
from stimcore.errors import Unavailable, UsageError
from stimcore.scan.source import EXPECTED, NETWORK, ScanSource
from stimcore.surgery.bundle import import_network, in_words, write_bundle
from stimcore.surgery.dataset import load_for, normalisation_for
from stimcore.surgery.reading import read_onnx


def bundle_of(source: ScanSource, report: Callable[[str], None]) -> Bundle:
    """Return the bundle of a network; it is written into the scan's folder unless the network is a bundle already.

    Args:
        source: What was given.
        report: Gets lines about what was found and made.

    Raises:
        UsageError: There is nothing of that name, or options don't fit it.
        StimcoreError: What was given is broken.
    """
    path = source.path
    if (path / "manifest.json").exists():
        source.refuse("a bundle", ())
        return open_bundle(path)
    if path.suffix == ".onnx" or (path.is_file() and not path.suffix):
        return _of_onnx(source, report)
    if path.is_file():
        raise UsageError(f"{path} is a file, but no ONNX file: its name does not end in .onnx", allowed=EXPECTED)
    if path.is_dir() and (path / "experiment.json").exists():
        raise UsageError(f"{path} is an experiment, not one of its methods", allowed=f"{path}/METHOD")
    if path.is_dir() and not (path / "run.json").exists():
        raise UsageError(f"{path} is neither a run folder nor a bundle", allowed=EXPECTED)
    if not path.is_dir() and (path.exists() or len(path.parts) > 1):
        raise UsageError(f"there is no network, folder or file {source.network}", allowed=EXPECTED)
    if not cli.has_torch():
        raise Unavailable("run folders and networks by name need torch, which is not installed", todo=cli.install_line("torch"))
    trained: Any = importlib.import_module("stimcore.scan.trained")
    made: Bundle = trained.bundle_of_trained(source, report)
    return made


def _of_onnx(source: ScanSource, report: Callable[[str], None]) -> Bundle:
    source.refuse("an ONNX file", ("--dataset", "--data-root", "--mean", "--std", "--images"))
    if source.dataset is None:
        raise UsageError(f"{source.network} without --dataset", allowed="--dataset folder:PATH, or the name of a data set")
    file = read_onnx(source.path)
    dataset = load_for(file, source.dataset, source.data_root)
    if source.images is not None:
        dataset = replace(dataset, test=stratified(dataset.test, source.images))
    normalisation, origin = normalisation_for(file, dataset, source.mean, source.std)
    network = import_network(file, file.image_shape(dataset.image_shape[1]))
    for line in (*_notes((*dataset.notes, *file.notes, origin)), *in_words(network)):
        report(line)
    source.folder.mkdir(parents=True, exist_ok=True)
    return write_bundle(network, dataset, normalisation, source.folder / NETWORK, report=report)


def _notes(notes: tuple[str, ...]) -> Iterator[str]:
    return (f"note: {note}" for note in notes)
