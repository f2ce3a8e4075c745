"""Browser components that the dashboard and a published page share. Knows no Streamlit."""
