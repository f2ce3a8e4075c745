"""A look at every file of a folder of pictures, before anything is done with them: what they are, and which can't be read."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from stimcore.data.listing import enumerated, shown
from stimcore.data.pictures import FilePixels, Header, opened, read_header, why_unreadable
from stimcore.data.preprocessing import Preprocessing
from stimcore.errors import DataMissing

Given = TypeVar("Given")
Result = TypeVar("Result")
THREADS = 8
"""Files that are read at once; Pillow decodes without Python's lock."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the files of a folder are.

    Attributes:
        headers: Header of every file that can be opened.
        broken: File that can't be read -> why, in a few words.
    """

    headers: Mapping[Path, Header]
    broken: Mapping[Path, str]

    @property
    def grey(self) -> bool:
        """Whether all pictures are grey. One colour picture makes all of them colour pictures."""
        return all(header.grey for header in self.headers.values())

    @property
    def conversions(self) -> Counter[str]:
        """What is done to pictures besides resizing and cropping -> to how many."""
        return Counter(words for header in self.headers.values() for words in header.conversions)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of the pictures, one sentence each."""
        grey = sum(header.grey for header in self.headers.values())
        notes = []
        if 0 < grey < len(self.headers):
            notes.append(f"{grey:,} grey and {len(self.headers) - grey:,} colour pictures: all are read as colour pictures")
        notes += [f"{words}: {number:,} pictures" for words, number in sorted(self.conversions.items())]
        return tuple(notes)


def survey(paths: Sequence[Path], check: Preprocessing | None = None) -> Survey:
    """Return what picture files are.

    Args:
        paths: The files.
        check: Also decode every file and prepare it in this way, to find those whose pixels are damaged.
    """

    def look(path: Path) -> Header | str:
        try:
            header = read_header(path)
            if check is not None:
                with opened(path) as image:
                    image.draft(image.mode, (1, 1))  # JPEG: all of the file is read, an eighth of the pixels is computed
                    check.decode(image)
        except DataMissing as reason:
            return why_unreadable(reason)
        return header

    headers_or_reasons = dict(zip(paths, in_threads(look, paths), strict=True))
    return Survey(
        headers={path: header for path, header in headers_or_reasons.items() if isinstance(header, Header)},
        broken={path: reason for path, reason in headers_or_reasons.items() if isinstance(reason, str)},
    )


def read_all(pixels: FilePixels) -> tuple[NDArray[np.uint8], dict[Path, str]]:
    """Return all pictures in memory, uint8 `[N, C, H, W]`, and the files that can't be read with the reasons."""
    out = np.zeros(pixels.shape, np.uint8)

    def read(index: int) -> str:
        try:
            out[index] = pixels[index]
        except DataMissing as reason:
            return why_unreadable(reason)
        return ""

    reasons = in_threads(read, range(len(pixels)))
    return out, {path: reason for path, reason in zip(pixels.paths, reasons, strict=True) if reason}


def refuse_broken(broken: Mapping[Path, str], total: int, root: Path) -> None:
    """Refuse a folder that has files which can't be read.

    Args:
        broken: File -> why it can't be read.
        total: Number of picture files in the folder.
        root: The folder.

    Raises:
        DataMissing: There is such a file; the message has the first of them and the number of the others.
    """
    if broken:
        words = [f"{shown(path, root)} ({reason})" for path, reason in sorted(broken.items())]
        raise DataMissing(
            f"{len(broken):,} of {total:,} files in {root} can't be read as pictures: {enumerated(words)}",
            todo=f"Repair or remove them; 'python -m stimcore.data inspect {root} --json -' lists all.",
        )


def in_threads(function: Callable[[Given], Result], items: Sequence[Given]) -> list[Result]:
    """Return the results of a function that reads files, in the order of the items."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, items))
