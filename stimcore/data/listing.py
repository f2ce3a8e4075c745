"""What a folder of pictures holds: its parts, its classes and its files; everything that is not read is counted or named.

Layouts are `ROOT/CLASS/*`, and `ROOT/train/CLASS/*` with `ROOT/test/CLASS/*`; the names of parts are those of `PARTS`, in any
case. A class may have folders inside. Symbolic links are followed, but every folder is read once: links that lead back, or to
a folder of another class, are named and not followed.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stimcore.data.pictures import is_picture
from stimcore.errors import DataMissing
from stimcore.files import expanded

PARTS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation"),
}
"""Part -> names of its folder, compared in lower case."""
_FILLER = r"(?:[\W\d_]|set|data|images?|imgs?|pictures?|photos?|samples?|files?|folder|seg|split)*"
_LIKE_A_PART = re.compile(
    rf"{_FILLER}(?:(?P<train>train(?:ing)?)|(?P<test>test(?:ing)?)|(?P<val>val(?:id(?:ation)?)?|dev|eval(?:uation)?)){_FILLER}"
)
"""Other names that folders of parts have in published data sets: `seg_train`, `Training Set`, `test1`, `dev`."""
IGNORED = frozenset(
    {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "desktop.ini", "ehthumbs.db", "lost+found"}
    | {"system volume information", "thumbs.db"}
)
"""Names of files and folders that operating systems add, in lower case; names that begin with a dot are ignored, too."""
SPECIAL = "pipes and devices"
"""What files are counted as that hold no bytes."""
MOST_NAMED = 20
"""Files that a message names; of more, it gives the number."""
_MOST_DESCENTS = 8
"""Folders that hold nothing but one folder, as unpacked archives do, in each other."""

Item = tuple[Path, int]
"""A picture file and its label."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The picture files of a folder.

    Attributes:
        root: The folder that holds the parts or the classes.
        parts: Names of the folders of training and test part; one name where the test part has none of its own; empty where
            `root` holds the classes.
        classes: Names of the classes in the order of their labels, in the Unicode form NFC.
        train: Training pictures with their labels; all pictures where there is no folder of test pictures.
        test: Test pictures with their labels; None where there is no folder of them.
        ignored: Kind of ignored file -> number.
        unread: Files that are no pictures, or none that this Pillow can read.
        outside: Pictures that lie in no folder of a class.
        notes: What a reader should know, one sentence each, without the files above.
    """

    root: Path
    parts: tuple[str, ...]
    classes: tuple[str, ...]
    train: Sequence[Item]
    test: Sequence[Item] | None
    ignored: dict[str, int]
    unread: tuple[Path, ...]
    outside: tuple[Path, ...]
    notes: tuple[str, ...]

    @property
    def all_notes(self) -> tuple[str, ...]:
        """All notes, with those on files that are not read."""
        notes = list(self.notes)
        if self.ignored:
            kinds = ", ".join(f"{name} {number}" for name, number in sorted(self.ignored.items()))
            notes.append(f"ignored files: {sum(self.ignored.values())} ({kinds})")
        return (*notes, *_not_read(self.outside, self.unread, self.root))


def _not_read(outside: Sequence[Path], unread: Sequence[Path], root: Path) -> list[str]:
    """Return in words which files are not read, and why."""
    kinds = {"in no folder of a class": outside, "no pictures that Pillow can read": unread}
    return [f"not read, {kind}: {named(paths, root)}" for kind, paths in kinds.items() if paths]


def named(paths: Sequence[Path], root: Path) -> str:
    """Return the first paths, relative to a folder, and the number of the others."""
    return enumerated([shown(path, root) for path in paths])


def shown(path: Path, root: Path) -> str:
    """Return a path relative to a folder, or as it is where it lies elsewhere."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def enumerated(words: Sequence[str]) -> str:
    """Return the first words between commas, and the number of the others.

    Example:
        >>> enumerated([str(number) for number in range(22)])[-16:]
        '19, and 2 others'
    """
    more = len(words) - MOST_NAMED
    return ", ".join(words[:MOST_NAMED]) + (f", and {more} others" if more > 0 else "")


def list_folder(root: Path) -> Listing:
    """Return the picture files of a folder.

    Raises:
        DataMissing: There is no such folder; there are fewer than two classes; a class has no pictures in a part; a part is
            there twice, or without its counterpart; the name of the folder or of a class is no text.
    """
    root = expanded(root)
    _refuse_bytes(root)
    if not root.is_dir():
        raise DataMissing(f"there is no folder {root}", todo="Give a folder that has one folder of images per class.")
    walk = _Walk()
    root, folders = _descend(root, walk)
    train, test = _parts(root, folders, walk)
    if train is None:
        items, classes = _list_classes(root, folders, walk)
        parts: tuple[str, ...] = ()
        test_items = None
    else:
        items, classes = _list_classes(train, walk.children(train), walk)
        parts, test_items = (train.name,), None
        if test is None:
            walk.notes.append(f"{root} has no folder of test pictures: a share of those in {train.name}/ is not trained on")
        else:
            test_items, test_classes = _list_classes(test, walk.children(test), walk)
            parts = (train.name, test.name)
            if classes != test_classes:
                differ = sorted(set(classes) ^ set(test_classes))
                raise DataMissing(
                    f"{train.name} and {test.name} in {root} differ in the classes {enumerated(differ)}",
                    allowed="the same classes in both, each with pictures",
                )
    return Listing(
        root=root,
        parts=parts,
        classes=classes,
        train=items,
        test=test_items,
        ignored=dict(walk.ignored),
        unread=tuple(walk.unread),
        outside=tuple(walk.outside),
        notes=tuple(walk.notes),
    )


@dataclass
class _Walk:
    """What was met on the way.

    Attributes:
        seen: Device and number of every folder that is read -> its path.
        ignored: Kind of ignored file -> number.
        unread: Files that are no pictures.
        outside: Pictures in no folder of a class.
        notes: Sentences for the reader.
    """

    seen: dict[tuple[int, int], Path] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    unread: list[Path] = field(default_factory=list)
    outside: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def claim(self, folder: Path) -> Path | None:
        """Note that a folder is read. Return the path under which it is read already, if there is one."""
        status = folder.stat()
        earlier = self.seen.setdefault((status.st_dev, status.st_ino), folder)
        return None if earlier is folder else earlier

    def children(self, folder: Path) -> list[Path]:
        """Return the folders of a folder that holds parts or classes, in order; its files are not read."""
        folders, files = self.entries(folder)
        for path in files:
            (self.outside if is_picture(path) else self.unread).append(path)
        return folders

    def entries(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Return folders and files in a folder in order; ignored ones are counted."""
        folders: list[Path] = []
        files: list[Path] = []
        for path in sorted(folder.iterdir()):
            if (kind := _ignored_kind(path)) is not None:
                self.ignored[kind] += sum(len(names) for _, _, names in os.walk(path)) if path.is_dir() else 1
            elif path.is_dir():
                folders.append(path)
            elif path.is_file() or not path.exists():  # a link that leads nowhere is told of where it is opened
                files.append(path)
            else:  # a pipe or a device: whoever opens one may wait for ever
                self.ignored[SPECIAL] += 1
        return folders, files

    def pictures(self, folder: Path) -> list[Path]:
        """Return the picture files in a folder and in the folders inside."""
        pictures: list[Path] = []
        waiting = [folder]
        while waiting:
            folders, files = self.entries(waiting.pop())
            for inner in folders:
                if (earlier := self.claim(inner)) is not None:
                    self.notes.append(f"not followed: {inner} leads to {earlier}, which is read there")
                else:
                    waiting.append(inner)
            for path in files:
                (pictures if is_picture(path) else self.unread).append(path)
        return pictures


def _ignored_kind(path: Path) -> str | None:
    """Return what an ignored file or folder is counted as; None for one that is read."""
    name = path.name
    if name.startswith("._"):  # beside every file in archives that were packed on macOS
        return "._*"
    if name.startswith("."):
        return name if path.is_dir() or name == ".DS_Store" else ".*"
    return name if name.lower() in IGNORED else None


def _descend(root: Path, walk: _Walk) -> tuple[Path, list[Path]]:
    """Return the folder that holds parts or classes, and the folders in it: archives often have a single folder at the top."""
    for _ in range(_MOST_DESCENTS):
        walk.claim(root)
        folders = walk.children(root)
        if len(folders) != 1 or _part_of(folders[0]) is not None or not _Walk().entries(folders[0])[0]:
            break
        walk.notes.append(f"{folders[0]} is read, as it is the only folder in {root}")
        root = folders[0]
    return root, folders


def _part_of(folder: Path) -> str | None:
    """Return the part that a folder's name stands for."""
    return next((part for part, names in PARTS.items() if folder.name.lower() in names), None)


def _parts(root: Path, folders: Sequence[Path], walk: _Walk) -> tuple[Path | None, Path | None]:
    """Return the folders of training and test part; None for the first where `root` holds the classes.

    Raises:
        DataMissing: A part is there twice, or there are test pictures and no training pictures.
    """
    by_part = {part: [folder for folder in folders if _part_of(folder) == part] for part in PARTS}
    others = [folder for folder in folders if _part_of(folder) is None]
    if others and not (by_part["train"] and (by_part["test"] or by_part["val"])):
        _refuse_parts_of_other_names(root, folders)
        return None, None  # a class may be called train, among others
    if not by_part["train"]:
        if not folders:
            return None, None
        names = ", ".join(folder.name for folder in folders)
        raise DataMissing(f"{root} has {names} and no folder of training pictures", allowed=f"{root / 'train'} beside it")
    test, unused, reason = by_part["test"], by_part["val"], "holds the test pictures"
    if unused and not any(len(_Walk().entries(folder)[0]) > 1 for folder in test):  # ImageNet's test pictures have no labels
        test, unused, reason = unused, test, f"{reason}, with folders of classes"
    for same in (by_part["train"], test):
        if len(same) > 1:
            raise DataMissing(
                f"{root} has {' and '.join(folder.name for folder in same)}, which stand for the same part",
                todo="Keep one of them.",
            )
    if unused:
        names = ", ".join(f"{folder.name}/" for folder in unused)
        walk.notes.append(f"{names} is not read: {test[0].name}/ {reason}")
    if others:
        walk.notes.append(f"not read, folders beside {by_part['train'][0].name}/: {named(others, root)}")
    train = by_part["train"][0]
    walk.claim(train)
    if test and walk.claim(test[0]) is not None:
        raise DataMissing(f"{train.name} and {test[0].name} in {root} are the same folder", todo="Keep test pictures apart.")
    return train, test[0] if test else None


def _refuse_parts_of_other_names(root: Path, folders: Sequence[Path]) -> None:
    """Refuse folders that are called like parts in another way: as classes they would teach which part a picture is from.

    Raises:
        DataMissing: There are folders for two parts.
    """
    matches = {folder.name: match for folder in folders if (match := _LIKE_A_PART.fullmatch(folder.name.lower()))}
    if len({match.lastgroup for match in matches.values()}) > 1:
        raise DataMissing(
            f"{root} has {', '.join(matches)}, which look like parts, and would be read as classes",
            allowed="; ".join(f"{' or '.join(names)} for the {part} part" for part, names in PARTS.items()),
            todo="Rename them.",
        )


def _refuse_bytes(folder: Path) -> None:
    """Refuse a folder whose name is stored with a run or a bundle and can't be: bytes that are not UTF-8.

    Archives from Windows often have such names. Python reads them with escapes that no file of text may hold.

    Raises:
        DataMissing: The path is of this kind.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError as reason:
        raise DataMissing(
            f"the folder {ascii(str(folder))} has a name that is no text in UTF-8",
            todo="Rename the folder: it was probably unpacked from an archive of a system that writes names otherwise.",
        ) from reason


def _list_classes(folder: Path, folders: Iterable[Path], walk: _Walk) -> tuple[list[Item], tuple[str, ...]]:
    """Return the pictures of the class folders in a folder, and the class names in order.

    Raises:
        DataMissing: There are fewer than two classes, a class has no pictures, or a name is no text.
    """
    by_class: dict[str, list[Path]] = {}
    for path in folders:
        _refuse_bytes(path)
        by_class.setdefault(unicodedata.normalize("NFC", path.name), []).append(path)
        # before any of them is walked through, so that a link inside one class never takes the pictures of another
        if (earlier := walk.claim(path)) is not None:
            raise DataMissing(f"the class folders {path} and {earlier} are the same folder", todo="Remove one of them.")
    classes = sorted(by_class)
    walk.notes += [
        f"the folders of class {name} in {folder} are read as one: their names differ in Unicode form only"
        for name in classes
        if len(by_class[name]) > 1
    ]
    items = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted(picture for inner in by_class[name] for picture in walk.pictures(inner))
    ]
    if inside := sorted({path.parent for path, _ in items}.difference(*by_class.values())):
        walk.notes.append(f"folders inside of a class are read as this class: {named(inside, folder)}")
    outside, unread = ([path for path in paths if folder in path.parents] for paths in (walk.outside, walk.unread))
    rest = _not_read(outside, unread, folder)
    aside = f" ({'; '.join(rest)})" if rest else ""
    if len(classes) < 2 or not items:
        raise DataMissing(
            f"{folder} has {len(classes)} class folders with {len(items)} images{aside}",
            allowed="at least two folders with images in them, one per class",
        )
    empty = sorted(set(range(len(classes))) - {label for _, label in items})
    if empty:
        raise DataMissing(
            f"the class folders {enumerated([classes[i] for i in empty])} in {folder} have no images{aside}",
            todo="Put pictures into them, or move them elsewhere.",
        )
    return items, tuple(classes)
