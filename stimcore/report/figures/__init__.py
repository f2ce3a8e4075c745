"""Numbers to plotly figures, one noun a file: pure functions that know no files and no web page."""
