"""The benchmark `bench gpu`; see `suite`."""
