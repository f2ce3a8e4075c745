"""The model server: protocol, queue, worker, jobs, and the one client that talks to it. Never torch."""
