"""Programs that use the unmodified clients of other projects, and the requests that were recorded from them.

The clients pin other versions of what the server needs, so that each of them runs in an environment of its own.
"""
