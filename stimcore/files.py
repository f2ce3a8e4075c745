"""Files and folders that no reader sees half-written: replacement, JSON lines, hard links between equal files, folder locks."""

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

LOCK = ".lock"
"""The file in a folder that `locked` locks."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path next to `target`, and move that file to `target` when the block ends without an error.

    After a full disk, an exception or Ctrl-C the old file is still there, and the temporary one is gone.

    Raises:
        OSError: The file can't be written; the error names `target`.
    """
    temporary = _temporary(target)
    try:
        with _naming(target, hidden=temporary):
            yield temporary
            _sync_and_move(temporary, target)
    finally:
        with suppress(OSError):  # where its folder is none, nothing is there either, and the error above names the target
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Give an empty temporary folder next to `target`, and move it there when the block ends without an error.

    After a full disk, an exception or Ctrl-C the old folder is still there, and the temporary one is gone. Of several processes
    that replace a folder at once, one leaves its own, whole.

    Raises:
        OSError: A file can't be written; the error names it, or `target`.
    """
    temporary, replaced = _temporary(target), _temporary(target)
    try:
        with _naming(target, hidden=temporary):
            temporary.mkdir()
            yield temporary
            while True:
                with suppress(FileNotFoundError):
                    target.rename(replaced)
                try:
                    temporary.rename(target)
                    break
                except OSError as reason:  # another process has put its folder there meanwhile
                    if reason.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                    shutil.rmtree(replaced)
    finally:
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        for path in (temporary, replaced):
            shutil.rmtree(path, ignore_errors=True)


def _sync_and_move(temporary: Path, target: Path) -> None:
    # without fsync a power cut could leave the new name with an empty file behind it
    with temporary.open("rb+") as handle:
        os.fsync(handle.fileno())
    temporary.replace(target)


@contextmanager
def _naming(path: Path, hidden: Path | None = None) -> Iterator[None]:
    """Name a file in errors of the system that name none, as those of a full disk, or that name a file which nobody asked for.

    Args:
        path: The file to name.
        hidden: A file that stands for it while it is written.
    """
    try:
        yield
    except OSError as reason:
        if reason.errno is None or reason.filename not in (None, hidden and str(hidden)):
            raise
        raise OSError(reason.errno, reason.strerror, str(path)) from reason


def write_text(target: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(value: Any) -> str:
    """Return indented JSON as it is written to files.

    Raises:
        ValueError: The value holds NaN or an infinity, for which JSON has no number.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    # Names of files that are not UTF-8 reach Python as lone surrogates, which no text file may hold. Escaped they are JSON.
    return text.encode(errors="backslashreplace").decode()


def write_json(target: Path, value: Any) -> None:
    """Write indented JSON, whole or not at all.

    Raises:
        ValueError: The value holds NaN or an infinity, for which JSON has no number.
    """
    write_text(target, json_text(value))


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that were killed while they wrote into a folder have left; nothing else may write into it now."""
    for path in folder.glob(".*.part"):
        if path.is_file():
            path.unlink(missing_ok=True)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON objects, one a line; none when the file is missing."""
    try:
        return parse_jsonl(path.read_bytes())
    except FileNotFoundError:
        return []


def parse_jsonl(content: bytes) -> list[dict[str, Any]]:
    """Return the rows of JSON objects, one a line.

    A process that is killed while it appends leaves a torn last line. Rows are objects, and the beginning of an object is never
    valid JSON, so that reading ends at the first line that is not an object.
    """
    rows: list[dict[str, Any]] = []
    for line in content.splitlines():
        row = _row(line)
        if row is None:
            break
        rows.append(row)
    return rows


def append_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append rows to a file of JSON lines and flush them to the disk; a torn last line is removed first.

    Raises:
        ValueError: A row holds NaN or an infinity.
        OSError: The file can't be written; the error names it.
    """
    text = _lines(rows)
    with _naming(path), path.open("ab+") as handle:
        # a row that follows a torn line on the same line would be lost with it
        if handle.tell():
            handle.seek(-1, os.SEEK_END)
            if handle.read() != b"\n":
                handle.seek(0)
                whole, newline, last = handle.read().rpartition(b"\n")
                if _row(last) is None:
                    handle.truncate(len(whole) + len(newline))
                else:
                    handle.write(b"\n")
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of JSON lines, whole or not at all.

    Raises:
        ValueError: A row holds NaN or an infinity.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(_lines(rows))


def _lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()


def _row(line: bytes) -> dict[str, Any] | None:
    """Return the object on a line, None when the line is something else or torn."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def store_once(path: Path, others: Iterable[Path]) -> bool:
    """Replace a file by a hard link to the first of `others` with the same bytes, so that they are on the disk once.

    Replacing, moving or removing one of the names leaves the others as they are. Writing into one of them in place would change
    all, so this is for files that are only ever replaced.

    Returns:
        Whether the file is a link now; False when no other file is equal, and where the file system has no hard links.
    """
    for other in others:
        if not other.is_file() or other.samefile(path):
            continue
        if other.stat().st_size != path.stat().st_size or sha256(other) != sha256(path):
            continue
        temporary = _temporary(path)
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
def locked(folder: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a folder, which only one process can hold at a time.

    It is the lock of a hidden file in the folder. It belongs to an open file handle, so that the operating system releases it
    when the process is killed; the empty file stays.

    Args:
        folder: An existing folder.
        on_wait: Called once, before waiting, when another process holds the lock.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        on_wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def allow_descriptors(wanted: int) -> int:
    """Raise the number of file descriptors that this process may have, as far as the system lets a process do so.

    Returns:
        The number that it may have, at most `wanted`.
    """
    try:
        import resource
    except ImportError:
        return wanted  # Windows has no such limit

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


def expanded(path: Path) -> Path:
    """Return a path with the home folder in the place of a `~`; as it is where there is no such user, so no such folder."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def with_names(path: Path, depth: int = 1) -> Path:
    """Return a path whose last parts are the names of folders, which `.` and `..` in a shell are not.

    Args:
        path: A folder; links stay as they are where they can.
        depth: How many of the last parts are read as names.

    Example:
        >>> with_names(Path("exported/mine"), 2)
        PosixPath('exported/mine')
        >>> with_names(Path()).name == Path.cwd().name
        True
    """
    parts = path.parts[-depth:]
    if len(parts) == depth and ".." not in parts:
        return path
    return path.resolve() if ".." in path.parts else Path.cwd() / path


def sha256(path: Path) -> str:
    """Return the SHA-256 hash of a file's bytes, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _temporary(target: Path) -> Path:
    """Return an unused hidden name in the target's folder: moving a file is atomic only within a file system."""
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
