"""The experiments of the project as lists of commands."""
