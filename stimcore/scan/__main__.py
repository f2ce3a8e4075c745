"""`python -m stimcore.scan`: find out which blocks a trained network needs."""

import sys
from collections.abc import Sequence
from pathlib import Path

from stimcore import cli
from stimcore.scan.arguments import parser

if __name__ == "__main__":
    cli.answer_early(parser)

from tqdm import tqdm

from stimcore import files
from stimcore.analysis.scan import Scan
from stimcore.errors import UsageError
from stimcore.scan.measure import scan_bundle
from stimcore.scan.opening import bundle_of
from stimcore.scan.source import ScanSource
from stimcore.scan.table import lines

__all__ = ["main", "parser"]

JOURNAL, RESULT, FIGURE = "journal.jsonl", "scan.json", "scan.html"
"""Files in a scan's folder."""


def main(argv: Sequence[str]) -> int:
    """Scan a network and return the exit code."""
    options = parser().parse_args(argv)
    if options.images is not None and options.images < 1:
        raise UsageError(f"--images {options.images}", allowed="1 and more")
    source = ScanSource(
        network=options.network,
        out=options.out,
        dataset=options.dataset,
        data_root=options.data_root,
        init=options.init,
        mean=options.mean,
        std=options.std,
        images=options.images,
        trust_code=options.trust_code,
    )
    loud = options.json != "-"
    source.check_folder()
    bundle = bundle_of(source, print if loud else lambda _line: None)
    source.claim_folder()
    folder = source.folder
    hidden = options.quiet or not sys.stderr.isatty()
    with tqdm(unit="image", unit_scale=True, disable=hidden, desc=bundle.topology.network) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        scan = scan_bundle(bundle, kinds=options.edits, device=options.device, journal=folder / JOURNAL, report=report)
    files.write_json(folder / RESULT, scan.to_dict())
    written = [RESULT]
    if "deletion" in options.edits and cli.installed("plotly"):
        _write_figure(scan, folder / FIGURE)
        written.append(FIGURE)
    if loud:
        print("\n".join(lines(scan)))
        print(f"{folder}: {', '.join(written)}; the scanned network is the bundle {bundle.path}")
        if "deletion" in options.edits and FIGURE not in written:
            print(f"without a figure, as plotly is not installed. {cli.install_line('plotly')}")
    cli.write_report(options.json, scan.to_dict())
    return 0


def _write_figure(scan: Scan, path: Path) -> None:
    """Write the figure as a page of its own."""
    # an installation that only serves has no plotly, and its scans are complete without the figure
    from stimcore.figures.layout import apply_print_theme
    from stimcore.figures.scan import block_drops

    with files.replacing(path) as temporary:
        apply_print_theme(block_drops(scan)).write_html(temporary, include_plotlyjs=True)


if __name__ == "__main__":
    cli.run(main)
