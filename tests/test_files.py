"""JSON lines that survive a killed writer, hard links between equal files, locks between processes."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stimcore.files import (
    append_jsonl,
    locked,
    read_jsonl,
    remove_unfinished,
    replacing,
    store_once,
    write_json,
    write_jsonl,
    write_text,
)


def made(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_equal_files_share_their_bytes(tmp_path: Path) -> None:
    texts = {"a": "xy", "b": "xy", "c": "xz"}
    first, second, other = (made(tmp_path / name / "images.npz", text) for name, text in texts.items())
    assert store_once(second, tmp_path.glob("*/images.npz"))
    assert second.samefile(first)
    assert not store_once(other, tmp_path.glob("*/images.npz"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(["a", "b", "c", *["images.npz"] * 3])


def test_each_is_a_file_of_its_own(tmp_path: Path) -> None:
    first, second = made(tmp_path / "a" / "images.npz", "xy"), made(tmp_path / "b" / "images.npz", "xy")
    assert store_once(second, [first])
    with replacing(first) as temporary:
        temporary.write_text("new", encoding="utf-8")
    assert (first.read_text(encoding="utf-8"), second.read_text(encoding="utf-8")) == ("new", "xy")


def test_without_hard_links_it_stays_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = made(tmp_path / "a" / "images.npz", "xy"), made(tmp_path / "b" / "images.npz", "xy")

    def refused(*_: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refused)
    assert not store_once(second, [tmp_path / "gone", first])
    assert second.read_text(encoding="utf-8") == "xy"
    assert not second.samefile(first)
    assert [path.name for path in second.parent.iterdir()] == ["images.npz"]


def test_the_second_holder_waits_for_the_first(tmp_path: Path) -> None:
    waits = threading.Event()
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path, waits.set):
            order.append("second")

    other = threading.Thread(target=second)
    with locked(tmp_path, lambda: order.append("never")):
        other.start()
        assert waits.wait(10)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]


ROWS = st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5), max_size=3), max_size=5)


@given(rows=ROWS, more=ROWS, data=st.data())
def test_rows_before_a_cut_are_read_and_later_ones_appended(
    rows: list[dict[str, object]], more: list[dict[str, object]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Wherever a killed writer stopped, every row whose last byte was written is there, before and after an append."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_jsonl(path, rows)
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    ends = [i for i, byte in enumerate(content) if byte == ord("\n")]
    kept = rows[: sum(end <= cut for end in ends)]
    assert read_jsonl(path) == kept
    append_jsonl(path, more)
    assert read_jsonl(path) == [*kept, *more]


def test_a_missing_file_has_no_rows(tmp_path: Path) -> None:
    assert read_jsonl(tmp_path / "rows.jsonl") == []


def test_reading_ends_where_a_line_is_not_an_object(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n[2]\n{"a": 3}\n')
    assert read_jsonl(path) == [{"a": 1}]


def test_numbers_that_json_lacks_are_refused_and_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_jsonl(path, [{"a": 1}])
    with pytest.raises(ValueError, match="JSON compliant"):
        append_jsonl(path, [{"a": float("nan")}])
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("inf")})
    assert read_jsonl(path) == [{"a": 1}]
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_file_is_replaced_only_when_all_went_well(tmp_path: Path) -> None:
    path = made(tmp_path / "value.txt", "old")

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text(encoding="utf-8") == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["value.txt"]


def test_a_file_in_what_is_no_folder_is_the_file_that_the_error_names(tmp_path: Path) -> None:
    target = made(tmp_path / "file", "x") / "value.json"
    with pytest.raises(NotADirectoryError) as raised:
        write_json(target, {"a": 1})
    assert raised.value.filename == str(target)


@pytest.mark.parametrize(
    "write", [write_json, lambda path, value: write_jsonl(path, [value]), lambda path, _: write_text(path, "x")]
)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO])
def test_a_full_disk_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, object], None], number: int
) -> None:
    """The system's error names no file: it belongs to a handle. This is where a disk reports what it could not keep."""
    target = made(tmp_path / "value.json", "old")

    def full(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        write(target, {"a": 1})
    assert raised.value.filename == str(target)
    assert raised.value.errno == number
    assert target.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        append_jsonl(target, [{"a": 1}])
    assert raised.value.filename == str(target)


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".checkpoint-0001.pt.0a1b2c3d.part", "checkpoint-0001.pt", "notes.part", ".hidden"):
        made(tmp_path / name, "x")
    (tmp_path / ".folder.part").mkdir()
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".folder.part", ".hidden", "checkpoint-0001.pt", "notes.part"]


@pytest.mark.parametrize("missing", [True, False])
def test_errors_name_the_file_that_was_asked_for(missing: bool, tmp_path: Path) -> None:
    target = tmp_path / "name.json"
    if missing:
        target = tmp_path / "nowhere" / "name.json"
    else:
        target.mkdir()  # which no file can replace
    with pytest.raises(OSError, match="name.json") as refused:
        write_json(target, {})
    assert refused.value.filename == str(target)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_errors_of_other_files_keep_their_names(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as refused, replacing(tmp_path / "a.json"):
        (tmp_path / "other.json").read_bytes()
    assert refused.value.filename == str(tmp_path / "other.json")
