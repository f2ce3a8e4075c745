"""`python -m stimcore.publish`: write bundles as a static web page that needs no server."""

import sys
from collections.abc import Sequence
from pathlib import Path

from stimcore import cli
from stimcore.errors import UsageError
from stimcore.publish.runtime import RuntimeMissing, runtime_files
from stimcore.publish.site import DEFAULT_IMAGES, WALLS, Settings, build_site, weights
from stimcore.report.results import find_experiments
from stimcore.web.words import LANGUAGES


def parser() -> cli.Parser:
    """Return the command line; a test compares its help text with a stored one."""
    line = cli.Parser(
        prog="python -m stimcore.publish",
        description="Write experiments as a static web page: any web host serves it, under any path, and visitors' browsers "
        "run the networks. Equal bundles and options give equal bytes.",
    )
    line.add_argument("experiments", nargs="+", metavar="EXPERIMENT", type=Path, help="exported/EXPERIMENT, or exported")
    line.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder, or an earlier page to replace")
    line.add_argument("--experiment", action="append", metavar="NAME", help="only this one of them; may be given again")
    line.add_argument("--title", default=Settings.title, help="title of the page (default: one in the visitor's language)")
    line.add_argument(
        "--lang",
        default=Settings.language,
        choices=LANGUAGES,
        help="language of the texts where the address has no ?lang= (default: the first of the visitor's browser)",
    )
    line.add_argument(
        "--images",
        type=int,
        default=DEFAULT_IMAGES,
        metavar="N",
        help="test images on which browsers count what is not stored (default: %(default)s)",
    )
    line.add_argument(
        "--walls",
        choices=WALLS,
        default=Settings.walls,
        help="picture walls that are computed now where a bundle has none: of no state, of the ready-made edits, or of all "
        "stored states, which takes minutes (default: %(default)s)",
    )
    line.add_argument(
        "--runtime", type=Path, metavar="FILE", help="the npm package onnxruntime-web; fetched with npm and cached without this"
    )
    return line


def main(argv: Sequence[str]) -> int:
    """Write the page; return 1 when a bundle could not be read and is missing from it."""
    options = parser().parse_args(argv)
    if options.images < 1:
        raise UsageError(f"--images {options.images}", allowed="a whole number from 1")
    folders = find_experiments(options.experiments)
    for name in options.experiment or ():
        if name not in {folder.name for folder in folders}:
            raise UsageError(f"there is no experiment {name}", allowed=", ".join(folder.name for folder in folders))
    if options.experiment:
        folders = [folder for folder in folders if folder.name in options.experiment]
    runtime, problem = None, ""
    try:
        runtime = runtime_files(options.runtime)
    except RuntimeMissing as reason:
        problem = str(reason)
    settings = Settings(
        title=options.title,
        language=options.lang,
        images=options.images,
        walls=options.walls,
        runtime=runtime,
        runtime_problem=problem,
    )
    site = build_site(folders, settings)
    site.write(options.out)
    total = sum(map(len, site.files.values()))
    print(f"{options.out}: {len(site.files)} files, {total / 1e6:.1f} MB")
    for name in sorted({path.split("/")[1] for path in site.files if path.startswith("data/") and path.count("/") > 1}):
        print(f"{name}, with two methods, loaded as a host that compresses sends it:")
        for weight in weights(site, name, _first_methods(site.files, name)):
            print(f"  {weight.what}: {weight.packed / 1e3:,.0f} kB ({weight.raw / 1e3:,.0f} kB on disk)")
    for sentence in site.problems:
        print(sentence, file=sys.stderr)
    return 1 if any(sentence.startswith("left out") for sentence in site.problems) else 0


def _first_methods(paths: Sequence[str] | dict[str, bytes], name: str) -> list[str]:
    """Return the folders of the two methods that an experiment opens with."""
    folders = {path.split("/")[2] for path in paths if path.startswith(f"data/{name}/") and path.count("/") > 2}
    return sorted(folders, key=lambda folder: ({"common": 0, "stimulative": 1}.get(folder, 2), folder))[:2]


if __name__ == "__main__":
    cli.run(main)
