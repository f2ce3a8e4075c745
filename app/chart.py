"""A finished figure on a page: keyboard twin of its camera is the download of its numbers."""

from typing import Any

import plotly.graph_objects as go
import streamlit as st

from stimcore.figures.base import CONFIG, plotted


def show(figure: go.Figure, key: str, alt: str, **more: Any) -> None:
    """Draws a figure, and offers its numbers as CSV; its camera saves an SVG.

    Args:
        figure: To draw.
        key: Names the widgets (`figure_KEY`) and the file.
        alt: For a screen reader.
        more: For `st.plotly_chart`, a selection for instance.
    """
    config = {**CONFIG, "toImageButtonOptions": {"format": "svg", "filename": key}}
    st.plotly_chart(figure, key=f"figure_{key}", config=config, alt=alt, **more)
    st.download_button(
        "Numbers (CSV)",
        plotted(figure),
        f"{key}.csv",
        "text/csv",
        key=f"csv_{key}",
        on_click="ignore",
        type="tertiary",
        icon=":material/download:",
    )
