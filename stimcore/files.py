"""Writing files so that a reader, a full disk or Ctrl-C never meets half of one."""

import fcntl
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Gives a temporary path beside `target`; what is written there takes the target's place when all went well."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any) -> None:
    """Writes readable JSON whole or not at all; a number that JSON has no word for is an error."""
    write_text(target, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def store_once(path: Path, others: Iterable[Path]) -> bool:
    """Makes a file share the bytes on disk with the first of other files that is equal, as a hard link.

    Each name stays a file of its own: replacing, moving or removing one leaves the others alone. Only for files that are
    never written in place.

    Returns:
        Whether it was made a link; False where no other is equal, or where the file system has no hard links.
    """
    for other in others:
        if not other.is_file() or other.samefile(path):
            continue
        if other.stat().st_size != path.stat().st_size or sha256(other) != sha256(path):
            continue
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            os.link(other, temporary)
            temporary.replace(path)
        except OSError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True
    return False


@contextmanager
def alone(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds a folder against every other process that asks for it in the same way; a killed process holds nothing.

    Args:
        folder: It exists.
        waiting: Called once when another process holds it, before waiting for that one.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
