"""What deleting and re-ordering blocks costs: Figs r4 to r7 with all methods on one axis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from stimcore.analysis.loafing import Row, Spread
from stimcore.figures.base import error_bars, quiet
from stimcore.figures.style import Style, tint

BANDS = 3
"""More methods than that in one figure, and bands hide each other: only medians are drawn."""
PATTERNS = {"solid": "", "dash": "/", "dot": ".", "dashdot": "x", "longdash": "\\", "longdashdot": "-"}
"""A bar's pattern for a line's dash."""


@dataclass(frozen=True)
class Series:
    """One method's numbers for one panel."""

    style: Style
    singles: Sequence[tuple[int, Row]] = ()
    spreads: Sequence[Spread] = ()


def singles(series: Sequence[Series], fixed: Mapping[int, str], num_blocks: int, chosen: int | None = None) -> go.Figure:
    """A bar per deleted block and method with its paired 95% interval; blocks that can't go leave a gap.

    Args:
        series: One per method.
        fixed: Block -> why it can't go.
        num_blocks: In all.
        chosen: A block to outline.
    """
    figure = go.Figure()
    for one in series:
        blocks = [block for block, _ in one.singles]
        drops = [row["drop_pct"] for _, row in one.singles]
        figure.add_bar(
            x=blocks,
            y=drops,
            name=one.style.label,
            marker={
                "color": one.style.color,
                "line": {"width": [3 if b == chosen else 0 for b in blocks], "color": "#7A7A7A"},
                "pattern": {"shape": PATTERNS[one.style.dash]},
            },
            error_y=error_bars(drops, [tuple(row["drop_interval_pct"]) for _, row in one.singles]),
            customdata=blocks,
            hovertemplate="without block %{x}: %{y:.1f} points lost<extra>" + one.style.label + "</extra>",
        )
    quiet(figure, x="deleted block", y="points lost", height=400)
    figure.update_layout(barmode="group", clickmode="event+select", bargap=0.25)
    blocks = list(range(1, num_blocks + 1))
    step = max(1, num_blocks // 30)
    figure.update_xaxes(
        range=[0.4, num_blocks + 0.6],
        tickvals=blocks[::step],
        ticktext=[f"{b} 🔒" if b in fixed and step == 1 else str(b) for b in blocks[::step]],
    )
    return figure


def curve(series: Sequence[Series], x: str) -> go.Figure:
    """Median drop over the amount of damage, and for a few methods a band from the smallest to the largest.

    Args:
        series: One per method.
        x: What the amount counts.
    """
    figure = go.Figure()
    for one in series:
        amounts = [s.amount for s in one.spreads]
        if len(series) <= BANDS:
            figure.add_scatter(
                x=[*amounts, *reversed(amounts)],
                y=[*(s.high for s in one.spreads), *(s.low for s in reversed(one.spreads))],
                fill="toself",
                fillcolor=tint(one.style.color, 0.16),
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                showlegend=False,
                name=f"{one.style.label}: range",
            )
        medians = [s.median for s in one.spreads]
        figure.add_scatter(
            x=amounts,
            y=medians,
            mode="lines+markers",
            name=one.style.label,
            line={"color": one.style.color, "dash": one.style.dash, "width": 2.5},
            marker={"symbol": one.style.symbol, "size": 10, "color": one.style.color},
            error_y={
                "type": "data",
                "visible": False,
                "array": [s.high - s.median for s in one.spreads],
                "arrayminus": [s.median - s.low for s in one.spreads],
            },
            text=[f"{s.num} sub-network{'' if s.num == 1 else 's'}, {s.low:.1f} to {s.high:.1f}" for s in one.spreads],
            hovertemplate="%{x}: median %{y:.1f} points lost<br>%{text}<extra>" + one.style.label + "</extra>",
        )
    quiet(figure, x=x, y="points lost", height=400)
    figure.update_xaxes(dtick=1 if all(s.amount <= 20 for one in series for s in one.spreads) else None)
    return figure
