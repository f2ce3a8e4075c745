"""All ordered sub-networks of a network: how their accuracies spread (Figs r1 and r8), and whom they lie "
"inside (Tables r5, r6)."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from stimcore.analysis.loafing import Row, Sweep
from stimcore.figures.base import quiet
from stimcore.figures.style import Style, tint

DRAWN = 1500
"""Points per method that are drawn one by one; of a larger family a seeded sample, the quartiles are of all."""


@dataclass(frozen=True)
class Family:
    """One method's sweep and its look."""

    style: Style
    sweep: Sweep
    names: Mapping[str, str]
    """Long form of a spec -> what a reader is shown."""


def shown(rows: Sequence[Row]) -> list[Row]:
    """At most `DRAWN` rows, the same ones every time."""
    return list(rows) if len(rows) <= DRAWN else random.Random(0).sample(list(rows), DRAWN)


def distribution(families: Sequence[Family], chosen: str = "") -> go.Figure:
    """A violin and a point per sub-network for each method; the full network as a star, the chosen one ringed.

    Args:
        families: One per method.
        chosen: A spec in long form.
    """
    figure = go.Figure()
    for i, family in enumerate(families):
        look, rows = family.style, shown(family.sweep["results"])
        jitter = random.Random(i)
        values = [row["accuracy_pct"] for row in family.sweep["results"]]
        figure.add_violin(
            x0=i,
            y=values,
            name=look.label,
            line_color=look.color,
            fillcolor=tint(look.color, 0.12),
            points=False,
            width=0.9,
            showlegend=False,
            hoverinfo="skip",
            spanmode="hard",
            meanline_visible=True,
        )
        figure.add_scatter(
            x=[i + jitter.uniform(-0.22, 0.22) for _ in rows],
            y=[row["accuracy_pct"] for row in rows],
            mode="markers",
            name=look.label,
            marker={"color": look.color, "symbol": look.symbol, "size": 7 if len(rows) < 400 else 4, "opacity": 0.75},
            customdata=[row["spec"] for row in rows],
            text=[family.names.get(row["spec"], row["spec"]) for row in rows],
            hovertemplate="%{text}<br>%{y:.1f} % right<extra>" + look.label + "</extra>",
        )
        figure.add_scatter(
            x=[i],
            y=[family.sweep["main"]["accuracy_pct"]],
            mode="markers",
            name=f"{look.label}: full network",
            showlegend=False,
            marker={"symbol": "star", "size": 17, "color": look.color, "line": {"width": 1.5, "color": "white"}},
            customdata=[family.sweep["main"]["spec"]],
            hovertemplate="full network<br>%{y:.1f} % right<extra>" + look.label + "</extra>",
        )
        ring = next((row for row in family.sweep["results"] if row["spec"] == chosen), None)
        if ring:
            figure.add_scatter(
                x=[i],
                y=[ring["accuracy_pct"]],
                mode="markers",
                name=f"{look.label}: chosen",
                showlegend=False,
                hoverinfo="skip",
                marker={"symbol": "circle-open", "size": 19, "color": look.color, "line": {"width": 3}},
            )
    quiet(figure, x="", y="accuracy in %", height=460)
    figure.update_xaxes(
        tickvals=list(range(len(families))),
        ticktext=[f.style.label.replace(" ", "<br>", 1) for f in families],
        range=[-0.6, len(families) - 0.4],
        ticklabelstep=1,
    )
    figure.update_layout(showlegend=False, clickmode="event+select", violingap=0)
    return figure


def against_cost(families: Sequence[Family], macs: Mapping[str, int], chosen: str = "") -> go.Figure:
    """Accuracy over the work per image.

    Args:
        families: One per method.
        macs: Spec -> multiply-accumulates, of every spec drawn; where it is empty the number of blocks stands in.
        chosen: A spec in long form, ringed.
    """
    figure = go.Figure()

    def cost(spec: str) -> float:
        return macs[spec] / 1e6 if macs else float(len([b for b in spec.replace(".", "-").split("-") if b != "x"]))

    for family in families:
        look = family.style
        rows = shown(family.sweep["results"])
        figure.add_scatter(
            x=[cost(row["spec"]) for row in rows],
            y=[row["accuracy_pct"] for row in rows],
            mode="markers",
            name=look.label,
            marker={
                "color": look.color,
                "symbol": look.symbol,
                "opacity": 0.8,
                "size": [15 if row["spec"] == chosen else 8 for row in rows],
            },
            customdata=[row["spec"] for row in rows],
            text=[family.names.get(row["spec"], row["spec"]) for row in rows],
            hovertemplate="%{text}<br>%{y:.1f} % right, %{x:.3g}<extra>" + look.label + "</extra>",
        )
    quiet(figure, x="million multiply-adds per image" if macs else "blocks that run", y="accuracy in %", height=460)
    figure.update_layout(clickmode="event+select")
    return figure


def matrix(names: Sequence[str], cells: Mapping[tuple[str, str], float], title: str) -> go.Figure:
    """Rows are sub-networks, columns the main networks they lie inside; numbers in the cells, the lower left blank.

    Args:
        names: From the smallest to the largest.
        cells: (row, column) -> accuracy in percent.
        title: `paper` or `measured here`, for the legend of the colours.
    """
    values = [[cells.get((row, column)) for column in names] for row in names]
    figure = go.Figure(
        go.Heatmap(
            x=list(names),
            y=list(names),
            z=values,
            colorscale="Cividis",
            zmin=0,
            zmax=100,
            hoverongaps=False,
            name=title,
            hovertemplate="%{y} inside %{x}: %{z:.2f} %<extra></extra>",
            colorbar={"title": "%", "thickness": 12},
        )
    )
    for row in names:
        for column in names:
            value = cells.get((row, column))
            if value is not None:
                figure.add_annotation(
                    x=column,
                    y=row,
                    text=f"{value:.1f}",
                    showarrow=False,
                    font={"color": "white" if value < 55 else "black", "size": 14},
                )
    quiet(figure, x="main network it sits in", y="sub-network", height=90 + 62 * len(names))
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(type="category", side="bottom")
    return figure


def pick(event: Any) -> str:
    """The spec of a clicked point; empty where nothing is selected."""
    try:
        points = event["selection"]["points"]
    except (KeyError, TypeError):
        return ""
    for point in points:
        data = point.get("customdata")
        value = data[0] if isinstance(data, list | tuple) and data else data
        if value not in (None, ""):
            return str(value)
    return ""
