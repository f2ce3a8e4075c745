"""The client of a model server, and a server that a program starts for itself."""
