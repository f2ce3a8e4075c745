"""Writes bundles as a static web page that takes networks apart in the visitor's browser, without a server."""
