"""Curves of `bench scale` as SVG: points joined by lines over a logarithmic axis. The same numbers give the same bytes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 44, 52
INK, LINE, GOAL = "#57606a", "#0b62a4", "#b35900"
"""Colours that are read on white and on black."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One curve.

    Attributes:
        title: What grows, and what is shown.
        x_name: What the horizontal axis counts.
        points: Size and value of each point; sizes are positive and ascend.
        allowed: Largest value over the smallest one that is aimed at; drawn as a line above the smallest value.
    """

    title: str
    x_name: str
    points: Sequence[tuple[float, float]]
    allowed: float


def draw(curve: Curve) -> str:
    """Return the SVG of a curve; its values are divided by the smallest one, and its vertical axis begins at 0.

    Example:
        >>> text = draw(Curve(title="Depth", x_name="layers", points=[(20, 1.0), (110, 1.1)], allowed=1.15))
        >>> text.count("<circle"), "1.10" in text
        (2, True)
    """
    smallest = min(value for _, value in curve.points)
    points = [(size, value / smallest) for size, value in curve.points]
    top = 1.1 * max(curve.allowed, *(value for _, value in points))
    low, high = (math.log10(points[number][0]) for number in (0, -1))

    def place(size: float, value: float) -> tuple[str, str]:
        along = (math.log10(size) - low) / (high - low) if high > low else 0.5
        x = LEFT + 20 + along * (WIDTH - LEFT - RIGHT - 40)
        return f"{x:.1f}", f"{HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM):.1f}"

    floor = HEIGHT - BOTTOM
    goal = place(points[0][0], curve.allowed)[1]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif" '
        f'font-size="13" fill="{INK}">',
        f"<title>{escape(curve.title)}</title>",
        f'<text x="{LEFT}" y="22" font-size="15">{escape(curve.title)}</text>',
        f'<path d="M{LEFT} {TOP}V{floor}H{WIDTH - RIGHT}" fill="none" stroke="{INK}"/>',
        f'<path d="M{LEFT} {goal}H{WIDTH - RIGHT}" stroke="{GOAL}" stroke-dasharray="5 4"/>',
        f'<text x="{LEFT - 8}" y="{goal}" text-anchor="end" dominant-baseline="middle" fill="{GOAL}">{curve.allowed:g}</text>',
        f'<text x="{LEFT - 8}" y="{floor}" text-anchor="end" dominant-baseline="middle">0</text>',
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{escape(curve.x_name)}</text>',
        f'<polyline points="{" ".join(",".join(place(*point)) for point in points)}" fill="none" stroke="{LINE}" '
        'stroke-width="2"/>',
    ]
    for size, value in points:
        x, y = place(size, value)
        parts += [
            f'<circle cx="{x}" cy="{y}" r="4" fill="{LINE}"/>',
            f'<text x="{x}" y="{float(y) + 20:.1f}" text-anchor="middle">{value:.2f}</text>',
            f'<text x="{x}" y="{floor + 20}" text-anchor="middle">{size:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
