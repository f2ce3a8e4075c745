"""`python -m stimcore.bundle verify|migrate|pictures|from-onnx`: check, migrate or make bundles, or write their images."""

import random
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from stimcore import cli
from stimcore.bundle.arguments import parser

if __name__ == "__main__":
    cli.answer_early(parser)

import numpy as np

from stimcore.bundle import Bundle, check_hashes, open_bundle
from stimcore.bundle.bundle import AS_TRAINED
from stimcore.bundle.experiment import Experiment
from stimcore.bundle.integrity import files_below
from stimcore.bundle.manifest import MAIN
from stimcore.bundle.opening import bundle_folders, experiment_folders, open_experiment, require_folder
from stimcore.bundle.pictures import write_pictures
from stimcore.engine.spotcheck import SLACK, spot_check
from stimcore.errors import BundleError, NoBundle, SpecError, UsageError
from stimcore.export.migrate import migrate_experiment, restore_stopped
from stimcore.subnets.families import KINDS
from stimcore.subnets.spec import Spec
from stimcore.surgery.bundle import import_network, in_words, plain_name, write_bundle
from stimcore.surgery.dataset import load_for, normalisation_for
from stimcore.surgery.reading import read_onnx

__all__ = ["main", "parser"]

IMPORTING = ("dataset", "data-root", "mean", "std", "name")
"""Options that only from-onnx has."""
ROUNDED_PCT = 0.005 + 1e-9
"""How far an accuracy may be from its count: two decimals are what the oldest manifests may have."""
AGAIN = "Export the run again."
AN_EXPERIMENT = "an experiment: exported/EXPERIMENT"


def main(argv: Sequence[str]) -> int:
    """Verify or migrate. The first thing that does not hold is printed, and the exit code is 1."""
    options = parser().parse_args(argv)
    if options.what == "from-onnx":
        return _from_onnx(options)
    if given := [f"--{name}" for name in IMPORTING if getattr(options, name.replace("-", "_")) is not None]:
        raise UsageError(f"{options.what} with {given[0]}", allowed="this option with from-onnx only")
    if options.what != "verify" and options.seed is not None:
        raise UsageError(f"{options.what} with --seed", allowed="--out alone")
    if options.what == "migrate":
        return _migrate(options.folder, options.out)
    if options.what == "pictures":
        if options.out is None:
            raise UsageError("pictures without --out", allowed="--out DIR, a new folder")
        require_folder(options.folder, AN_EXPERIMENT)
        if not (options.folder / "experiment.json").exists():
            raise NoBundle(f"{options.folder} is not an experiment: it has no experiment.json", allowed=AN_EXPERIMENT)
        number = write_pictures(open_experiment(options.folder), options.out)
        print(f"{options.out}: {number:,} pictures")
        return 0
    if options.out is not None:
        raise UsageError("verify with --out", allowed="--seed alone")
    return _verify(options.folder, options.seed)


def _from_onnx(options: Namespace) -> int:
    """Make a bundle of an ONNX file, and say what was found in it."""
    if options.seed is not None:
        raise UsageError("from-onnx with --seed", allowed="--seed with verify only")
    if options.out is None or options.dataset is None:
        raise UsageError("from-onnx without --out or --dataset", allowed="--dataset folder:PATH --out exported/EXPERIMENT")
    name = "imported" if options.name is None else options.name
    if plain_name(name) != name:
        raise UsageError(f"--name '{name}'", allowed="letters, digits, dots, dashes and underscores, beginning with a letter")
    file = read_onnx(options.folder)
    dataset = load_for(file, options.dataset, options.data_root)
    normalisation, origin = normalisation_for(file, dataset, options.mean, options.std)
    network = import_network(file, file.image_shape(dataset.image_shape[1]))
    for note in (*dataset.notes, *file.notes, origin):
        print(f"note: {note}")
    bundle = write_bundle(network, dataset, normalisation, options.out, name=name, report=print)
    for line in in_words(network):
        print(line)
    print(f"{bundle.path}: {bundle.main.correct:,} of {bundle.manifest.images:,} images right")
    return 0


def _verify(folder: Path, seed: int | None) -> int:
    require_folder(folder, "a bundle, an experiment or a folder of experiments")
    if (folder / "manifest.json").exists():
        paths = [folder]
    else:
        paths = [path for depth in (1, 2) for path in bundle_folders(folder, depth=depth)]
    if not paths:
        raise BundleError(f"there is no bundle in {folder}", todo="'python -m stimcore.export' writes bundles.")
    rng = random.Random(seed)
    checked: set[Path] = set()
    for path in paths:
        bundle = open_bundle(path, verify=False)
        count = check_hashes(bundle)
        _refuse_unlisted(bundle.path, {"manifest.json", *bundle.manifest.file_hashes}, bundle.manifest.version)
        if path.parent not in checked:
            _check_experiment(bundle.experiment)
            checked.add(path.parent)
        _check_manifest(bundle)
        _check_hits(bundle)
        _ = bundle.wall, bundle.trained_statistics()  # reading them refuses what has the right hash and is something else
        name = rng.choice(sorted(bundle.manifest.networks))
        correct = spot_check(bundle, name)
        line = (
            f"{path}: {count} files are what was exported; {name} gets {correct:,} of {bundle.manifest.images:,} images right"
        )
        line += f"; {_check_in_words(bundle)}"
        if bundle.unverified:
            line += f"; unverified, because version 1 stores no hash of them: {', '.join(bundle.unverified)}"
        print(line)
    return 0


def _check_in_words(bundle: Bundle) -> str:
    """Return on which images the listed networks were compared with torch when they were written."""
    manifest = bundle.manifest
    networks = f"{len(manifest.networks)} network{'s' if len(manifest.networks) != 1 else ''}"
    if manifest.check == "all":
        return f"{networks} verified against their reference on all {manifest.images:,} images"
    return f"{networks} sampled: compared with torch on {manifest.checked_images:,} of {manifest.images:,} images"


def _check_experiment(experiment: Experiment) -> None:
    """Make sure that the folder of an experiment holds nothing but its methods and what it lists.

    Raises:
        BundleError: There is a file that is not listed.
    """
    present = {path.name for path in experiment.path.iterdir() if path.is_file() and not path.name.startswith(".")}
    if experiment.version > 1 and (unlisted := present - {"experiment.json", *experiment.hashes}):
        raise _unlisted(experiment.path / min(unlisted))


def _refuse_unlisted(folder: Path, listed: set[str], version: int) -> None:
    if version > 1 and (unlisted := files_below(folder) - listed):
        raise _unlisted(folder / min(unlisted))


def _unlisted(path: Path) -> BundleError:
    return BundleError(f"{path} is not part of the bundle: no hash is stored of it", todo="Remove it.")


def _check_hits(bundle: Bundle) -> None:
    """Compare the stored hits of listed and swept networks with the counts in the manifest and in every sweep.

    Raises:
        BundleError: They differ by more than two images, or a sweep is not one.
    """
    counts = {"manifest.json": {Spec.from_text(entry.spec): entry.correct for entry in bundle.manifest.networks.values()}}
    for kind in KINDS:
        # only to check that they can be read: hits are those after re-calibration
        bundle.results(f"{kind}{AS_TRAINED}")
        bundle.sampled_results(f"{kind}{AS_TRAINED}")
        for name, sweep in (
            (f"sweep-{kind}.json", bundle.results(kind)),
            (f"sample-{kind}.json", bundle.sampled_results(kind)),
        ):
            if sweep is not None:
                counts[name] = {result.spec: result.correct for result in (sweep.main, *sweep.results)}
    stored = {} if bundle.all_hits is None else bundle.all_hits.packed
    hits = {spec: int(np.unpackbits(packed).sum()) for spec, packed in stored.items()}
    # one table after the other: the main network is in the manifest and in every sweep, and each of them may be wrong
    for file, by_spec in counts.items():
        for spec, correct in by_spec.items():
            if abs(hits.get(spec, correct) - correct) > SLACK:
                raise BundleError(
                    f"{bundle.path / 'hits.npz'} has {hits[spec]:,} hits of {spec}, {file} says {correct:,}", todo=AGAIN
                )


def _check_manifest(bundle: Bundle) -> None:
    """Compare what a manifest says about its networks and exits with itself: it holds the hashes, and nothing hashes it.

    Raises:
        BundleError: A listed network is none of this network's, the main network is not the whole, or a count is not that of an
            accuracy.
    """
    path, images = bundle.path / "manifest.json", bundle.manifest.images
    for name, entry in bundle.manifest.networks.items():
        try:
            spec = bundle.topology.parse(entry.spec)
        except SpecError as reason:
            raise BundleError(
                f"{path} lists {name} as '{entry.spec}', which this network does not have", todo=AGAIN
            ) from reason
        if str(spec) != entry.spec or (name == MAIN and spec != bundle.topology.full):
            wanted = bundle.topology.full if name == MAIN else spec
            raise BundleError(f"{path} lists {name} as '{entry.spec}'", allowed=f"'{wanted}'", todo=AGAIN)
    counted = [(name, entry.accuracy_pct, entry.correct) for name, entry in bundle.manifest.networks.items()]
    counted += [(f"exit {entry.block}", entry.accuracy_pct, entry.correct) for entry in bundle.manifest.exits]
    for name, accuracy_pct, correct in counted:
        if correct > images or abs(accuracy_pct - 100 * correct / max(1, images)) > ROUNDED_PCT:
            raise BundleError(
                f"{path} says {accuracy_pct:g}% for {name}, and {correct:,} of {images:,} images right: one of them is wrong",
                todo=AGAIN,
            )


def _migrate(folder: Path, out: Path | None) -> int:
    restore_stopped(folder)
    require_folder(folder, "an experiment or a folder of experiments")
    if (folder / "experiment.json").exists():
        pairs = [(folder, out)]
    else:
        pairs = [(path, None if out is None else out / path.name) for path in experiment_folders(folder)]
    if not pairs:
        raise BundleError(f"there is no experiment in {folder}", todo="'python -m stimcore.export' writes experiments.")
    for source, target in pairs:
        print(f"{migrate_experiment(source, target, print)} is of version 2")
    return 0


if __name__ == "__main__":
    cli.run(main)
