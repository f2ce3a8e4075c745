"""Figures as SVG files, drawn by the Chromium or Chrome of this machine."""

from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go

WIDTH_PX = 1040
TIMEOUT_S = 90


def write_svg(figures: Mapping[Path, go.Figure]) -> str:
    """Write every figure to its path.

    Args:
        figures: Path of the SVG file -> figure, with its own fonts and ground (`apply_print_theme`).

    Returns:
        One sentence on why there are no SVG files; empty when all were written.
    """
    try:
        import kaleido  # type: ignore[import-untyped]  # ships no types
        from choreographer.errors import BrowserFailedError, ChromeNotFoundError
    except ImportError:
        return "No SVG files: the package kaleido is not installed (it is in requirements-dev.txt)."
    jobs = [
        {
            "fig": figure.to_dict(),
            "path": str(path),
            "opts": {"format": "svg", "width": WIDTH_PX, "height": figure.layout.height},
        }
        for path, figure in figures.items()
    ]
    try:
        kaleido.write_fig_from_object_sync(jobs, kopts={"mathjax": False, "timeout": TIMEOUT_S})
    except ChromeNotFoundError:
        return "No SVG files: no Chromium or Chrome was found; install one, or name it in the variable BROWSER_PATH."
    except (BrowserFailedError, TimeoutError) as reason:
        return f"No SVG files: the browser did not start or did not answer ({type(reason).__name__})."
    return ""
