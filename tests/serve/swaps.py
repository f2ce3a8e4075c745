"""Changes of a served bundle on disk, as exports, copies, full disks and accidents make them."""

import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path


class Swapper:
    """Changes the folder of one bundle again and again.

    Args:
        target: The folder that is served.
        variants: Name -> folder of an intact bundle that may take its place.
        seed: Seed of the changes.

    Attributes:
        current: Name of the variant that the last export left.
    """

    def __init__(self, target: Path, variants: Mapping[str, Path], seed: int) -> None:
        self.target, self._variants = target, variants
        self._random = random.Random(seed)
        self.current = next(iter(variants))

    def export(self, name: str | None = None) -> str:
        """Put a variant in the place of the folder, by the two renamings that an export does; return its name."""
        self.current = name or self._random.choice(list(self._variants))
        unfinished, old = (self.target.with_name(f".{self.target.name}.{word}") for word in ("part", "old"))
        for left in (unfinished, old):
            shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(self._variants[self.current], unfinished)
        self.target.rename(old)
        unfinished.rename(self.target)
        shutil.rmtree(old)
        return self.current

    def damage(self) -> str:
        """Change one file, in its place or by replacing it; return what was done."""
        change = self._random.choice((self._swap, self._swap_in_place, self._truncate, self._flip, self._remove, self._empty))
        files = sorted(path for path in self.target.rglob("*") if path.is_file())
        path = self._random.choice(files)
        change(path)
        return f"{change.__name__} {path.name}"

    def _other(self, path: Path) -> bytes:
        """Return the content of the file of this name in another variant, or of any other file of this one."""
        names = [name for name in self._variants if name != self.current] or [self.current]
        other = self._variants[self._random.choice(names)] / path.relative_to(self.target)
        return other.read_bytes() if other.exists() else self._random.choice(sorted(self.target.glob("*.*"))).read_bytes()

    def _swap(self, path: Path) -> None:
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_bytes(self._other(path))
        temporary.replace(path)

    def _swap_in_place(self, path: Path) -> None:
        path.write_bytes(self._other(path))

    def _truncate(self, path: Path) -> None:
        os.truncate(path, self._random.randrange(max(1, path.stat().st_size)))

    def _empty(self, path: Path) -> None:
        os.truncate(path, 0)

    def _flip(self, path: Path) -> None:
        data = bytearray(path.read_bytes())
        if data:
            data[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
            path.write_bytes(data)

    def _remove(self, path: Path) -> None:
        path.unlink()
