"""The command line of `python -m stimcore.nets`: the catalogue, or one network."""

from stimcore import cli
from stimcore.nets.patterns import PATTERNS


def parser() -> cli.Parser:
    """Return the parser of the command line; a test freezes its help text."""
    line = cli.Parser(
        prog="python -m stimcore.nets", description="What networks are made of, and how many sub-networks they have."
    )
    line.add_argument("name", nargs="?", metavar="NAME", help=f"a network of the catalogue; also {PATTERNS}")
    line.add_argument(
        "--spec", nargs="+", default=[], metavar="SPEC", help="sub-networks to count the costs of: d1-1-1, 1-2.4.7"
    )
    line.add_argument(
        "--shape", metavar="CxHxW", help="shape of the images (default: that which the network was published for)"
    )
    line.add_argument("--classes", type=int, metavar="N", help="width of the logits (default: of the published network)")
    line.add_argument("--markdown", action="store_true", help="print the catalogue as the table of docs/networks.md")
    cli.add_json(line, "write everything as JSON")
    return line
