"""Clients of the server, and a server that a client starts for itself."""
