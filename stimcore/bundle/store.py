"""Adding files to a bundle or an experiment: contents and hashes change together, also when the process is killed.

New contents are written into a hidden folder first. When it is complete it gets the name `.update`, and its files are moved
into place, the JSON file with the hashes last. A process that is killed before the renaming leaves the bundle as it was; one
that is killed after it leaves work that `recover` finishes.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from stimcore import files
from stimcore.bundle.bundle import Bundle
from stimcore.bundle.manifest import ExitEntry
from stimcore.bundle.opening import open_bundle

Contents = Mapping[str, bytes | Path]
"""Name of a file -> its content, or a file in the same file system that is moved there."""
UPDATE, UNFINISHED = ".update", ".update.part"


def update_bundle(
    path: Path,
    make: Callable[[Bundle], Contents],
    on_wait: Callable[[], None] = lambda: None,
    *,
    exits: Sequence[ExitEntry] | None = None,
) -> None:
    """Add files to a bundle, or replace them, while nothing else writes into its experiment.

    The bundle's networks can't be changed in this way, so that its fingerprint stays. In a bundle of version 1 the files get no
    hashes, since its schema has none for them.

    Args:
        path: `exported/EXPERIMENT/METHOD`.
        make: Gets the bundle as it is now, and returns the files.
        on_wait: Called once when another process writes into the experiment, before waiting for it.
        exits: Early exits that the files have; those of the manifest stay when None.

    Raises:
        BundleError: The bundle is broken.
    """
    with writing(path.parent, on_wait):
        recover(path)
        apply_update(path, make(open_bundle(path)), exits=exits)


def apply_update(folder: Path, contents: Contents, *, exits: Sequence[ExitEntry] | None = None) -> None:
    """Add files to the folder of a method or of an experiment, or replace them. The caller holds the experiment: see `writing`.

    Args:
        folder: `exported/EXPERIMENT/METHOD` or `exported/EXPERIMENT`.
        contents: The files; listed networks are not among them, since only the exporter writes those.
        exits: Early exits of a method that the files have; those of the manifest stay when None.
    """
    recover(folder)
    index = folder / "manifest.json"
    if not index.exists():
        index = folder / "experiment.json"
    value = json.loads(index.read_bytes())
    assert not set(contents) & set(value.get("networks", {})), "listed networks are written by the exporter alone"
    if exits is not None:
        value["exits"] = [asdict(entry) for entry in exits]
    if value["version"] > 1:
        value["hashes"] = dict(sorted({**value["hashes"], **_hashes(contents)}.items()))
        _stage(folder, contents, {index.name: files.json_text(value).encode()})
    else:
        _stage(folder, contents, {})
    recover(folder)


@contextmanager
def writing(experiment: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold an experiment's folder, into which one process at a time writes.

    Args:
        experiment: An existing folder.
        on_wait: Called once when another process holds it, before waiting.
    """
    with files.locked(experiment, on_wait):
        yield


def recover(folder: Path) -> None:
    """Finish an update that was complete, and remove one that was not. The caller holds the experiment."""
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    update = folder / UPDATE
    if not update.is_dir():
        return
    # the JSON file with the hashes goes last: until then readers see the old hashes, and refuse files that are new already
    index = [update / name for name in ("manifest.json", "experiment.json")]
    for source in sorted((path for path in update.rglob("*") if path.is_file()), key=lambda path: path in index):
        target = folder / source.relative_to(update)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    shutil.rmtree(update)


def _stage(folder: Path, contents: Contents, index: Mapping[str, bytes]) -> None:
    """Write the new contents into the hidden folder; its renaming is the moment from which they count."""
    unfinished = folder / UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    for name, content in {**contents, **index}.items():
        target = unfinished / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.move(content, target)
        else:
            with files.replacing(target) as temporary:
                temporary.write_bytes(content)
    _sync(unfinished)
    unfinished.rename(folder / UPDATE)


def _hashes(contents: Contents) -> dict[str, str]:
    return {
        name: files.sha256(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()
        for name, content in contents.items()
    }


def _sync(folder: Path) -> None:
    """Write a folder's entries to the disk, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
