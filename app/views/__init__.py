"""The pages: read widgets, ask `app.sources`, draw a figure."""
