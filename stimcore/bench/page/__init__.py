"""The benchmark `bench page`; see `suite`.

Nothing is imported here: the tests of the dashboard use `browser` alone.
"""
