"""Fig. r1: the accuracy of every ordered sub-network over what it costs."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from stimcore.figures.layout import apply_layout, error_bars
from stimcore.figures.method_sweep import MethodSweep, drawn_results
from stimcore.subnets.spec import Spec

MAX_BARS = 400
"""With more points than that per method, intervals are not drawn: the bars would hide the points."""


def accuracy_over_cost(sweeps: Sequence[MethodSweep], macs: Mapping[Spec, int], chosen: Spec | None = None) -> go.Figure:
    """Return a point per sub-network and method with its 95% interval; the main network is a large star.

    Args:
        sweeps: One per method.
        macs: Multiply-accumulates of every spec that is drawn; where it is empty the number of blocks takes their place.
        chosen: A sub-network whose point is drawn larger.
    """
    figure = go.Figure()
    for one in sweeps:
        style, main = one.style, one.sweep.main.spec
        results = drawn_results(one.sweep.results)
        values = [result.accuracy_pct for result in results]
        is_main = [result.spec == main for result in results]
        figure.add_scatter(
            x=[_cost(result.spec, macs) for result in results],
            y=values,
            error_y=error_bars(values, [r.interval_pct for r in results], visible=len(results) <= MAX_BARS) | {"width": 0},
            mode="markers",
            name=style.label,
            marker={
                "color": style.color,
                "symbol": ["star" if main else style.symbol for main in is_main],
                "size": [17 if main else 15 if r.spec == chosen else 8 for r, main in zip(results, is_main, strict=True)],
                "opacity": 0.85,
                "line": {"width": 1, "color": "white"},
            },
            customdata=[str(result.spec) for result in results],
            text=[one.name(result.spec) for result in results],
            hovertemplate="%{text}<br>%{y:.1f} % right, %{x:,.3r}<extra>" + style.label + "</extra>",
        )
    cost = "million multiply-adds per image" if macs else "blocks that run"
    apply_layout(figure, x=cost, y="accuracy in %", height=460)
    figure.update_layout(clickmode="event+select", legend_itemsizing="constant")
    return figure


def _cost(spec: Spec, macs: Mapping[Spec, int]) -> float:
    return macs[spec] / 1e6 if macs else float(len(spec.blocks))
