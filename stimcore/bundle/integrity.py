"""Hashes of the files in a bundle: what is parsed is what was hashed, and a file that is not listed is never read.

Files may be links, as in the cache of the Hugging Face hub, in a volume of Kubernetes or in a copy by `cp -al`. They are
followed within the folder of experiments and to the blobs of the cache; one that leads elsewhere is refused wherever a bundle
is opened, by the server as by `verify`. onnxruntime gets bytes that were hashed and never opens a file of a bundle itself, so
that a link that is turned to another file after the check changes nothing, or is noticed.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from stimcore.errors import BundleError


def check_name(name: str) -> None:
    """Accept the name of a file inside a folder: relative, with slashes, no part of it hidden.

    Raises:
        ValueError: The name could lead out of the folder, or to a hidden file.

    Example:
        >>> check_name("standalone/main.onnx")
        >>> check_name("../common/weights.bin")
        Traceback (most recent call last):
            ...
        ValueError: '../common/weights.bin' is not the name of a file in this folder
    """
    parts = name.split("/")
    # a drive letter or a backslash would be a separator on Windows
    if "\\" in name or ":" in name or "\0" in name or not all(parts) or any(part.startswith(".") for part in parts):
        raise ValueError(f"'{name[:80]}' is not the name of a file in this folder")


def read_listed(folder: Path, name: str, hashes: Mapping[str, str]) -> bytes:
    """Return the content of a file, which has the hash that is listed for it.

    The bytes that are returned are the ones that were hashed: a file that is replaced between check and use can't slip in.

    Args:
        folder: The folder.
        name: Name of the file inside the folder.
        hashes: File -> SHA-256.

    Raises:
        BundleError: The file is not listed, is missing, or has other bytes.
    """
    if name not in hashes:
        raise BundleError(f"{folder / name} is not listed in the bundle", todo="A file without a hash is not read.")
    content = read_file(folder, name)
    if hashlib.sha256(content).hexdigest() != hashes[name]:
        raise _changed(folder / name)
    return content


def read_file(folder: Path, name: str) -> bytes:
    """Return the content of a file without checking it; errors are those of `open_file`."""
    with open_file(folder, name) as handle:
        return handle.read()


def open_file(folder: Path, name: str, todo: str = "Export the run again.") -> BinaryIO:
    """Open a file of an experiment or of a method for reading.

    Args:
        folder: `exported/EXPERIMENT/METHOD` or `exported/EXPERIMENT`.
        name: Name of the file inside the folder.
        todo: What the reader can do when it is missing.

    Raises:
        BundleError: The file is missing, is a link that leads out of the folder of experiments, or is no regular file.
    """
    path = folder / name
    try:
        _check_link(folder, path)
        # a pipe would make a plain `open` wait until something is written to it
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError) as reason:
        raise BundleError(f"{path} is missing", todo=todo) from reason
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise BundleError(f"{path} is missing" if stat.S_ISDIR(mode) else f"{path} is not a regular file", todo=todo)
    return os.fdopen(handle, "rb")


def _check_link(folder: Path, path: Path) -> None:
    """Refuse a link that leads out of the folder of experiments.

    Raises:
        BundleError: It does, or it leads in a circle.
        FileNotFoundError: It leads to nothing.
    """
    try:
        target = path.resolve(strict=True)
    except RuntimeError as reason:  # a circle, until Python 3.13, which raises OSError as for any other path
        raise BundleError(f"{path} is a link that leads in a circle", todo="Copy the bundle again.") from reason
    here, real = folder.absolute(), folder.resolve()
    if target == real / path.relative_to(folder):
        return  # no link at all, which is what almost every file is
    tree = here.parent.parent if os.path.lexists(folder / "manifest.json") else here.parent
    roots = [one.resolve() for one in (tree, tree / here.relative_to(tree).parts[0], here)]
    # a snapshot of the Hugging Face hub: its files are links into the folder of contents beside it
    blobs = [parent.parent / "blobs" for parent in real.parents if parent.name == "snapshots"]
    if not any(target.is_relative_to(root) for root in [*roots, *blobs]):
        raise BundleError(
            f"{path} is a link to {target}, which is outside of {tree}", todo="Copy the files themselves: 'cp -rL' does."
        )


def check_file(folder: Path, name: str, sha256: str) -> None:
    """Make sure that a file has a hash, without keeping its content in memory.

    Raises:
        BundleError: The file is missing, or has other bytes.
    """
    with open_file(folder, name) as handle:
        same = hashlib.file_digest(cast(BufferedReader, handle), "sha256").hexdigest() == sha256
    if not same:
        raise _changed(folder / name)


def files_below(folder: Path) -> set[str]:
    """Return the names of all files in a folder and its sub-folders, except hidden ones."""
    names = (PurePosixPath(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {str(name) for name in names if not any(part.startswith(".") for part in name.parts)}


def _changed(path: Path) -> BundleError:
    return BundleError(f"{path} is not what was exported: its sha256 differs", todo="Export the run again.")
