"""The command line of `python -m stimcore.publish`: which experiments, and how the page looks."""

from pathlib import Path

from stimcore import cli
from stimcore.publish.choices import DEFAULT_IMAGES, DEFAULT_LANGUAGE, DEFAULT_TITLE, DEFAULT_WALLS, WALLS
from stimcore.web.words import LANGUAGES


def parser() -> cli.Parser:
    """Return the command line; a test compares its help text with a stored one."""
    line = cli.Parser(
        prog="python -m stimcore.publish",
        description="Write experiments as a static web page: any web host serves it, under any path, and visitors' browsers "
        "run the networks. Equal bundles and options give equal bytes.",
    )
    line.add_argument("experiments", nargs="+", metavar="EXPERIMENT", type=Path, help="exported/EXPERIMENT, or exported")
    line.add_argument(
        "--out", type=cli.output_folder, required=True, metavar="DIR", help="a new folder, or an earlier page to replace"
    )
    line.add_argument("--experiment", action="append", metavar="NAME", help="only this one of them; may be given again")
    line.add_argument("--title", default=DEFAULT_TITLE, help="title of the page (default: one in the visitor's language)")
    line.add_argument(
        "--lang",
        default=DEFAULT_LANGUAGE,
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
        default=DEFAULT_WALLS,
        help="picture walls that are computed now where a bundle has none: of no state, of the ready-made edits, or of all "
        "stored states, which takes minutes (default: %(default)s)",
    )
    line.add_argument(
        "--runtime", type=Path, metavar="FILE", help="the npm package onnxruntime-web; fetched with npm and cached without this"
    )
    return line
