"""How the tests are divided among the processes of pytest-xdist.

A process makes its own dashboard, server, browser and bundles: no two processes share a port or a folder. These take seconds to
make, so that the tests of a folder that shares them run in one process, or in two. Everything else is divided by file.
"""

from typing import Any

from xdist.scheduler import LoadScopeScheduling

TOGETHER = ("tests/serve/", "tests/app/")
"""Folders whose tests share a server, or a dashboard and a browser: each half of one stays in one process."""
SECOND_HALF_FROM = {"tests/serve/": "repository", "tests/app/": "test_n"}
"""First path, in alphabetical order, of a folder's second half: in one process each would take as long as all else in two."""
FIRST = (*TOGETHER, "tests/train/", "tests/export/", "tests/engine/")
"""Folders that begin first, because they take longest: otherwise one process would be busy long after the others are done."""


class FolderScheduling(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Gives every process one folder or file of tests after another.

    Attributes:
        num_completed: Tests that have been run.
    """

    num_completed = 0

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """Count a test that a process has run."""
        self.num_completed += 1
        super().mark_test_complete(node, item_index, duration)

    @property
    def num_left(self) -> int:
        """Tests that have not been run."""
        return len(self.collection or ()) - self.num_completed

    def _split_scope(self, nodeid: str) -> str:
        """Return the folder or file of a test."""
        path = nodeid.partition("::")[0]
        folder = next((folder for folder in TOGETHER if path.startswith(folder)), None)
        if folder is None:
            return path
        return f"{folder}{1 + (path.removeprefix(folder) >= SECOND_HALF_FROM[folder])}"


def rank(nodeid: str) -> int:
    """Return the place of a test in the order in which folders begin."""
    return next((place for place, folder in enumerate(FIRST) if nodeid.startswith(folder)), len(FIRST))
