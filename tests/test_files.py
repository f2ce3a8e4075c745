"""Files that are equal lie on the disk once."""

import os
import threading
from pathlib import Path

import pytest

from stimcore.files import alone, replacing, store_once


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


def test_who_comes_second_is_told_and_waits(tmp_path: Path) -> None:
    told, order = threading.Event(), []

    def second() -> None:
        with alone(tmp_path, told.set):
            order.append("second")

    other = threading.Thread(target=second)
    with alone(tmp_path, lambda: order.append("never")):
        other.start()
        assert told.wait(10)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]
