"""The figure of a scan: what a network loses without each of its blocks."""

import plotly.graph_objects as go

from stimcore.analysis.scan import Scan, ScanRow
from stimcore.figures.layout import GREY, apply_layout, error_bars
from stimcore.figures.style import STYLES

RECALIBRATED, AS_TRAINED = STYLES["stimulative"].color, STYLES["common"].color
INFLUENCE = STYLES["self_distillation"].color


def block_drops(scan: Scan) -> go.Figure:
    """Return a bar per removable block with the drop without it, its drop without re-calibration, and its influence.

    Args:
        scan: A scan that has single deletions.
    """
    rows = [row for row in scan.rows if row.edit.kind == "deletion"]
    names = [f"block {row.edit.blocks[0]}" for row in rows]
    figure = go.Figure()
    on = [row.recalibrated for row in rows]
    figure.add_bar(
        x=names,
        y=[result.drop_pct for result in on],
        error_y=error_bars([result.drop_pct for result in on], [result.drop_interval_pct for result in on]),
        name="drop, re-calibrated",
        marker={"color": RECALIBRATED},
        customdata=[str(row.edit.spec) for row in rows],
        hovertemplate="%{x} removed<br>%{y:.2f} points<br>%{customdata}<extra></extra>",
    )
    if scan.num_norms:
        off = [row.as_trained for row in rows]
        figure.add_scatter(
            x=names,
            y=[result.drop_pct for result in off],
            error_y=error_bars([result.drop_pct for result in off], [result.drop_interval_pct for result in off]),
            mode="markers",
            name="drop, statistics of the training",
            marker={"color": AS_TRAINED, "symbol": "diamond", "size": 9},
            hovertemplate="%{x} removed, not re-calibrated<br>%{y:.2f} points<extra></extra>",
        )
    figure.add_scatter(
        x=names,
        y=[_influence(row) for row in rows],
        mode="lines+markers",
        name="block influence (right axis)",
        yaxis="y2",
        line={"color": INFLUENCE, "dash": "dot", "width": 1.5},
        marker={"color": INFLUENCE, "symbol": "triangle-up", "size": 8},
        hovertemplate="%{x}<br>influence %{y:.3f}<extra></extra>",
    )
    apply_layout(figure, x="", y="drop in points of accuracy")
    figure.update_layout(
        yaxis2={"title": "1 - cosine", "overlaying": "y", "side": "right", "rangemode": "tozero", "showgrid": False}
    )
    figure.add_hline(y=0, line={"color": GREY, "width": 1})
    return figure


def _influence(row: ScanRow) -> float | None:
    return None if row.influence is None else row.influence.value
