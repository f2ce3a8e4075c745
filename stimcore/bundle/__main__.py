"""`python -m stimcore.bundle verify DIR`: every hash, and one network of each bundle run and held against its manifest."""

import random
from collections.abc import Sequence
from pathlib import Path

from stimcore import cli
from stimcore.bundle import check_hashes, open_bundle
from stimcore.engine.spotcheck import spot_check
from stimcore.errors import BundleError


def parser() -> cli.Parser:
    """The command line; its help text is frozen by a test."""
    line = cli.Parser(prog="python -m stimcore.bundle", description="Check that bundles are what was exported.")
    line.add_argument("what", choices=["verify"])
    line.add_argument("folder", type=Path, help="exported/EXPERIMENT/METHOD, exported/EXPERIMENT or exported")
    line.add_argument("--seed", type=int, help="of which network is run (default: another one every time)")
    return line


def main(argv: Sequence[str]) -> int:
    """Verifies; the first thing that does not hold ends it with a sentence."""
    options = parser().parse_args(argv)
    folder: Path = options.folder
    found = [folder] if (folder / "manifest.json").exists() else sorted({p.parent for p in folder.rglob("manifest.json")})
    found = [path for path in found if not path.name.startswith(".")]
    if not found:
        raise BundleError(f"there is no bundle in {folder}", todo="'python -m stimcore.export' writes bundles.")
    rng = random.Random(options.seed)
    for path in found:
        bundle = open_bundle(path, verify=False)
        count = check_hashes(bundle)
        name = rng.choice(sorted(bundle.manifest.networks))
        correct = spot_check(bundle, name)
        print(
            f"{path}: {count} files are what was exported; {name} gets {correct:,} of {bundle.manifest.images:,} images right"
        )
    return 0


if __name__ == "__main__":
    cli.run(main)
