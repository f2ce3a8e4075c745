"""Numbers to plotly figures. Knows no Streamlit and no server."""
