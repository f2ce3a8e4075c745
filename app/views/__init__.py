"""The pages: each reads its widgets, asks `app.sources` and draws panels and figures."""
