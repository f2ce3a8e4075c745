"""Tests of the published page."""
