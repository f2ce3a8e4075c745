"""`python -m stimcore.publish`: write bundles as a static web page that needs no server."""

import sys
from collections.abc import Sequence

from stimcore import cli
from stimcore.publish.arguments import parser

if __name__ == "__main__":
    cli.answer_early(parser)

from stimcore.errors import UsageError
from stimcore.publish.runtime import PACKAGE, RuntimeMissing, runtime_files
from stimcore.publish.site import Settings, build_site, weights
from stimcore.report.results import find_experiments

__all__ = ["main", "parser"]


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
        loaded = weights(site, name, _first_methods(site.files, name))
        for weight in loaded:
            print(f"  {weight.what}: {weight.packed / 1e3:,.0f} kB ({weight.raw / 1e3:,.0f} kB on disk)")
        own = sum(weight.packed for weight in loaded if weight.what != PACKAGE)
        print(f"  all of it without {PACKAGE}: {own / 1e3:,.0f} kB")
    for sentence in site.problems:
        print(sentence, file=sys.stderr)
    return 1 if any(sentence.startswith("left out") for sentence in site.problems) else 0


def _first_methods(paths: Sequence[str] | dict[str, bytes], name: str) -> list[str]:
    """Return the folders of the two methods that an experiment opens with."""
    folders = {path.split("/")[2] for path in paths if path.startswith(f"data/{name}/") and path.count("/") > 2}
    return sorted(folders, key=lambda folder: ({"common": 0, "stimulative": 1}.get(folder, 2), folder))[:2]


if __name__ == "__main__":
    cli.run(main)
