"""Which files lie in the folders of bundles, without reading them: how the server notices that a bundle was exported anew.

A stamp proves nothing about contents: everything that is read from a bundle is hashed when it is read. It only shows when to
look again, for a few microseconds a file.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from stimcore.bundle.opening import bundle_folders

BundleKey = tuple[str, str]
"""Experiment and method."""
Stamp = frozenset[tuple[str, int, int, int]]
"""Path, inode, size in bytes and time of the last change in nanoseconds, of every file that belongs to a bundle."""


def stamps_under(folder: Path) -> dict[BundleKey, Stamp]:
    """Return the stamp of every bundle under a folder of experiments.

    The files of the experiment belong to each of its bundles. A folder that can't be read has an empty stamp: opening it gives
    the reason.
    """
    shared: dict[Path, Stamp] = {}
    stamps = {}
    for path in bundle_folders(folder, depth=2):
        if path.parent not in shared:
            shared[path.parent] = frozenset(_files(path.parent, deep=False))
        stamps[path.parent.name, path.name] = shared[path.parent] | frozenset(_files(path, deep=True))
    return stamps


def _files(folder: Path, *, deep: bool) -> Iterator[tuple[str, int, int, int]]:
    """Yield the files of a folder, hidden ones left out; with `deep`, those of its sub-folders too."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not entry.is_dir():
                    status = entry.stat()
                    yield entry.path, status.st_ino, status.st_size, status.st_mtime_ns
                elif deep:
                    yield from _files(Path(entry.path), deep=True)
    except OSError:
        return  # a folder or a file that went away meanwhile: without it the stamp is another one
