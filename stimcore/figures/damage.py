"""Figs r4 to r7: what deleting one block, deleting several and permuting blocks costs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from stimcore.analysis.result import Result
from stimcore.analysis.spreads import Spread
from stimcore.figures.layout import GREY, apply_layout, error_bars
from stimcore.figures.numbers import RANGE
from stimcore.figures.style import Style, tint

MAX_BANDS = 3
"""With more methods than that in one panel bands would hide each other: only medians are drawn."""
PATTERNS = {"solid": "", "dash": "/", "dot": ".", "dashdot": "x", "longdash": "\\", "longdashdot": "-"}
"""Dash of a line -> pattern of a bar."""
HATCHED = {"shape": "x", "fillmode": "replace", "solidity": 0.45, "size": 7}
"""Pattern of bars of blocks that the paper's methods never skip."""
DELETED, OPERATIONS = "deleted blocks", "permuting operations (swaps)"
"""What the horizontal axes of the curves count."""
DROP = "points lost"


@dataclass(frozen=True)
class MethodDamage:
    """Drops of one method. What was not swept is empty, and then has no mark: a missing drop is not a drop of zero.

    Attributes:
        style: Colour, dash and label of the method.
        singles: (block, result) without exactly this block.
        deletions: Drops by number of deleted blocks.
        permutations: Drops by number of permuting operations.
    """

    style: Style
    singles: Sequence[tuple[int, Result]] = ()
    deletions: Sequence[Spread] = ()
    permutations: Sequence[Spread] = ()


def single_deletions_figure(
    methods: Sequence[MethodDamage],
    num_blocks: int,
    *,
    locked: Sequence[int] = (),
    firsts: Sequence[int] = (),
    chosen: int | None = None,
) -> go.Figure:
    """Return a bar per deleted block and method with its paired 95% interval; blocks that can't be deleted leave a gap.

    Args:
        methods: One per method.
        num_blocks: Number of blocks of the network.
        locked: Blocks that can't be deleted; they are marked on the axis.
        firsts: First blocks that the paper's methods never skip. They stand apart, hatched and with a vertical axis of their
            own, since their drops would make all others look small.
        chosen: A block whose bars are outlined.
    """
    figure = make_subplots(rows=1, cols=2 if firsts else 1, column_widths=_widths(num_blocks, firsts), horizontal_spacing=0.1)
    for method in methods:
        later = replace(method, singles=[(block, result) for block, result in method.singles if block not in firsts])
        figure.add_trace(_bars(later, chosen).update(legendgroup=method.style.label), row=1, col=1)
    for method in methods if firsts else ():
        first = replace(method, singles=[(block, result) for block, result in method.singles if block in firsts])
        bars = _bars(first, chosen)
        bars.update(
            x=[str(block) for block, _ in first.singles],
            legendgroup=method.style.label,
            showlegend=False,
            marker_pattern={**HATCHED, "fgcolor": method.style.color},
        )
        figure.add_trace(bars, row=1, col=2)
    apply_layout(figure, x="deleted block", y=DROP, height=400)
    figure.update_layout(barmode="group", clickmode="event+select", bargap=0.25)
    step = max(1, num_blocks // 30)
    blocks = [block for block in range(1, num_blocks + 1, step) if block not in firsts]
    figure.update_xaxes(
        range=[0.4 + (1 in firsts), num_blocks + 0.6],
        tickvals=blocks,
        ticktext=[f"{block} 🔒" if block in locked and step == 1 else str(block) for block in blocks],
        row=1,
        col=1,
    )
    if firsts:
        figure.update_xaxes(title_text="first", type="category", row=1, col=2)
    return figure


def _widths(num_blocks: int, firsts: Sequence[int]) -> list[float]:
    # At least a sixth of the figure: the title of the narrow axis has to fit on a phone.
    apart = max(1 / 6, len(firsts) / (num_blocks + 1))
    return [1 - apart, apart] if firsts else [1.0]


def damage_curve(curves: Sequence[tuple[Style, Sequence[Spread]]], x: str) -> go.Figure:
    """Return the median drop over the amount of damage; for few methods also a band from the smallest to the largest drop.

    Args:
        curves: Style and drops per method.
        x: What the amount counts, `DELETED` or `OPERATIONS`.
    """
    figure = go.Figure()
    for style, spreads in curves:
        for trace in _curve(style, spreads, banded=len(curves) <= MAX_BANDS):
            figure.add_trace(trace)
    apply_layout(figure, x=x, y=DROP, height=400)
    figure.update_layout(meta={"ends": RANGE})
    figure.update_xaxes(dtick=_step([spreads for _, spreads in curves]))
    return figure


def damage_panels(methods: Sequence[MethodDamage], num_blocks: int) -> go.Figure:
    """Return the three panels of Figs r4 to r7, one below the other, so that they stay legible on a phone.

    Args:
        methods: One per method.
        num_blocks: Number of blocks of the network.
    """
    titles = ("(a) one block deleted", "(b) several blocks deleted", "(c) blocks permuted")
    figure = make_subplots(rows=3, cols=1, subplot_titles=titles, vertical_spacing=0.11)
    banded = len(methods) <= MAX_BANDS
    for method in methods:
        panels = (
            [_bars(method)] if method.singles else [],
            _curve(method.style, method.deletions, banded=banded),
            _curve(method.style, method.permutations, banded=banded),
        )
        named = False
        for row, traces in enumerate(panels, 1):
            for trace in traces:
                # One entry of the legend switches all panels of a method.
                trace.update(legendgroup=method.style.label, showlegend=trace.showlegend is not False and not named)
                named = named or bool(trace.showlegend)
                figure.add_trace(trace, row=row, col=1)
    apply_layout(figure, x="", y="", height=960)
    figure.update_layout(barmode="group", bargap=0.25, margin={"t": 70}, legend={"y": 1.05})
    for row, title in enumerate(("deleted block", DELETED, OPERATIONS), 1):
        figure.update_xaxes(title_text=title, title_standoff=4, row=row, col=1)
        figure.update_yaxes(title_text=DROP, row=row, col=1)
    figure.update_xaxes(range=[0.4, num_blocks + 0.6], dtick=max(1, num_blocks // 20), row=1, col=1)
    figure.update_xaxes(dtick=_step([method.deletions for method in methods]), row=2, col=1)
    figure.update_xaxes(dtick=_step([method.permutations for method in methods]), row=3, col=1)
    return figure


def _bars(method: MethodDamage, chosen: int | None = None) -> go.Bar:
    style = method.style
    blocks = [block for block, _ in method.singles]
    drops = [result.drop_pct for _, result in method.singles]
    return go.Bar(
        x=blocks,
        y=drops,
        name=style.label,
        marker={
            "color": style.color,
            "line": {"width": [3 if block == chosen else 0 for block in blocks], "color": GREY},
            "pattern": {"shape": PATTERNS[style.dash], "fillmode": "overlay", "fgcolor": "white", "solidity": 0.3},
        },
        error_y=error_bars(drops, [result.drop_interval_pct for _, result in method.singles]),
        customdata=blocks,
        hovertemplate="without block %{x}: %{y:.1f} points lost<extra>" + style.label + "</extra>",
    )


def _curve(style: Style, spreads: Sequence[Spread], *, banded: bool) -> list[go.Scatter]:
    if not spreads:
        return []
    amounts, medians = [spread.amount for spread in spreads], [spread.median for spread in spreads]
    band = go.Scatter(
        x=[*amounts, *reversed(amounts)],
        y=[*(spread.high for spread in spreads), *(spread.low for spread in reversed(spreads))],
        fill="toself",
        fillcolor=tint(style.color, 0.16),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        name=f"{style.label}: range",
    )
    line = go.Scatter(
        x=amounts,
        y=medians,
        mode="lines+markers",
        name=style.label,
        line={"color": style.color, "dash": style.dash, "width": 2.5},
        marker={"symbol": style.symbol, "size": 10, "color": style.color},
        # The band shows the range; these invisible bars carry it into the CSV.
        error_y=error_bars(medians, [(spread.low, spread.high) for spread in spreads], visible=False),
        text=[f"{s.num} sub-network{'' if s.num == 1 else 's'}, {s.low:.1f} to {s.high:.1f}" for s in spreads],
        hovertemplate="%{x}: median %{y:.1f} points lost<br>%{text}<extra>" + style.label + "</extra>",
    )
    return [band, line] if banded else [line]


def _step(curves: Sequence[Sequence[Spread]]) -> int | None:
    # Whole numbers on the axis; of many, plotly chooses which.
    return 1 if all(spread.amount <= 20 for spreads in curves for spread in spreads) else None
