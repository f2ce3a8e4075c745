"""Hashes of the files in a bundle: what is parsed is what was hashed, and a file that is not listed is never read."""

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

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
    """Return the content of a file without checking it.

    Raises:
        BundleError: The file is missing.
    """
    try:
        return (folder / name).read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as reason:
        raise BundleError(f"{folder / name} is missing", todo="Export the run again.") from reason


def check_file(folder: Path, name: str, sha256: str) -> None:
    """Make sure that a file has a hash, without keeping its content in memory.

    Raises:
        BundleError: The file is missing, or has other bytes.
    """
    try:
        with (folder / name).open("rb") as handle:
            same = hashlib.file_digest(handle, "sha256").hexdigest() == sha256
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as reason:
        raise BundleError(f"{folder / name} is missing", todo="Export the run again.") from reason
    if not same:
        raise _changed(folder / name)


def files_below(folder: Path) -> set[str]:
    """Return the names of all files in a folder and its sub-folders, except hidden ones."""
    names = (PurePosixPath(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {str(name) for name in names if not any(part.startswith(".") for part in name.parts)}


def _changed(path: Path) -> BundleError:
    return BundleError(f"{path} is not what was exported: its sha256 differs", todo="Export the run again.")
