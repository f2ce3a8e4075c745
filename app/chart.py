"""A finished figure on a page, with its numbers as a download."""

from typing import Any

import pandas  # noqa: F401  # whole, before a figure is made: plotly fails on one that another visitor's thread still imports
import plotly.graph_objects as go
import streamlit as st

from stimcore.figures.layout import CONFIG
from stimcore.figures.numbers import figure_csv


def chart(figure: go.Figure, key: str, alt: str, **options: Any) -> None:
    """Draw a figure; its camera saves an SVG, and a button, which a keyboard reaches too, saves its numbers as CSV.

    Args:
        figure: To draw.
        key: Names the widgets (`figure_KEY`, `csv_KEY`) and the files.
        alt: Description for a screen reader.
        options: For `st.plotly_chart`, a selection for instance.
    """
    config = {**CONFIG, "toImageButtonOptions": {"format": "svg", "filename": key}}
    st.plotly_chart(figure, key=f"figure_{key}", config=config, alt=alt, **options)
    st.download_button(
        "Numbers (CSV)",
        figure_csv(figure),
        f"{key}.csv",
        "text/csv",
        key=f"csv_{key}",
        on_click="ignore",
        type="tertiary",
        icon=":material/download:",
    )
