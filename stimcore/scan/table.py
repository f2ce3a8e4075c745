"""The result of a scan as lines of text."""

from collections.abc import Iterator

from stimcore.analysis.result import Interval
from stimcore.analysis.scan import EDIT_KINDS, Scan, ScanRow

TITLES = {
    "deletion": "one block removed",
    "pair": "two neighbouring blocks removed",
    "swap": "two blocks of a stage in each other's place",
}
MOST_NAMED = 5
"""Blocks that a summary names."""


def lines(scan: Scan) -> Iterator[str]:
    """Yield the table and the sentences below it."""
    low, high = scan.main.interval_pct
    yield (
        f"{scan.network}: {scan.main.accuracy_pct:.2f}% [{low:.2f}, {high:.2f}] of {scan.images:,} images, "
        f"{scan.main_as_trained.accuracy_pct:.2f}% without re-calibration"
    )
    yield "drops are in points of accuracy, with 95% intervals paired over images; influence is 1 - cosine of input and output"
    for kind in EDIT_KINDS:
        rows = [row for row in scan.rows if row.edit.kind == kind]
        if not rows:
            continue
        yield ""
        heads = f"{TITLES[kind]:44} {'drop re-calibrated':>25} {'drop as trained':>25}"
        yield heads + (f" {'influence':>22}" if kind == "deletion" else "")
        for row in rows:
            yield _line(row)
    yield ""
    yield from summary(scan)


def _line(row: ScanRow) -> str:
    on, off = row.recalibrated, row.as_trained
    text = (
        f"{row.edit!s:44} {_points(on.drop_pct, on.drop_interval_pct):>25} {_points(off.drop_pct, off.drop_interval_pct):>25}"
    )
    if row.influence is not None:
        influence = row.influence
        text += f" {f'{influence.value:.3f} [{influence.low:.3f}, {influence.high:.3f}]':>22}"
    return text + (" *" if row.changed_by_recalibration else "")


def _points(value: float, interval: Interval) -> str:
    return f"{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"


def summary(scan: Scan) -> Iterator[str]:
    """Yield what to conclude: which blocks loaf, whether influence says so too, and where re-calibration matters."""
    single = sorted((row for row in scan.rows if row.edit.kind == "deletion"), key=lambda row: row.recalibrated.drop_pct)
    if single:
        needed = [f"{row.edit.blocks[0]} ({row.recalibrated.drop_pct:.2f})" for row in reversed(single[-MOST_NAMED:])]
        yield f"needed most: block {', '.join(needed)}"
        loafing = [str(row.edit.blocks[0]) for row in single if row.recalibrated.drop_interval_pct[0] <= 0]
        yield (
            f"no loss can be shown without one of these blocks: {', '.join(loafing)}"
            if loafing
            else "every block is needed: the interval of each drop is above zero"
        )
    if scan.rank_correlation is not None:
        correlation = scan.rank_correlation
        yield (
            f"rank correlation of influence and drop over {len(single)} blocks: {correlation.value:.2f} "
            f"[{correlation.low:.2f}, {correlation.high:.2f}]"
        )
    if not scan.num_norms:
        yield "no batch norm is left in the graph: there is nothing to re-calibrate, and both columns are the same"
    elif changed := [row for row in scan.rows if row.changed_by_recalibration]:
        most = max(changed, key=lambda row: abs(row.change.value))
        yield (
            f"warning: re-calibration changes the answer for {len(changed)} of {len(scan.rows)} edits (*), most for "
            f"'{most.edit}': {most.change.value:+.2f} points. A network that is cut for use has to be re-calibrated, too."
        )
    else:
        yield "re-calibration changes no answer by a point or more"
