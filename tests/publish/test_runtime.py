"""onnxruntime-web comes checked, or the page says what is missing."""

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from stimcore.errors import UsageError
from stimcore.publish import runtime


def package(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in runtime.MEMBERS:
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def accepted(monkeypatch: pytest.MonkeyPatch) -> bytes:
    content = package(b"code")
    monkeypatch.setattr(runtime, "SHA512", base64.b64encode(hashlib.sha512(content).digest()).decode())
    return content


def test_the_package_of_this_version_is_unpacked(tmp_path: Path, accepted: bytes) -> None:
    (tmp_path / "package.tgz").write_bytes(accepted)
    files = runtime.runtime_files(tmp_path / "package.tgz")
    assert {name: files[name] for name in runtime.MEMBERS} == dict.fromkeys(runtime.MEMBERS, b"code")
    assert b"MIT License" in files["LICENSE.txt"]


def test_another_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "package.tgz").write_bytes(package(b"something else"))
    with pytest.raises(UsageError, match=f"is not onnxruntime-web {runtime.VERSION}"):
        runtime.runtime_files(tmp_path / "package.tgz")
    with pytest.raises(UsageError, match="can't be read"):
        runtime.runtime_files(tmp_path / "nowhere.tgz")


def test_what_is_cached_is_checked_before_it_is_used(no_cache: Path, monkeypatch: pytest.MonkeyPatch, accepted: bytes) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    cached = runtime.cache_folder() / runtime.ARCHIVE
    cached.parent.mkdir(parents=True)
    cached.write_bytes(accepted)
    assert runtime.runtime_files()["LICENSE.txt"]
    cached.write_bytes(accepted[:-1])
    with pytest.raises(runtime.RuntimeMissing, match="npm is not installed"):
        runtime.runtime_files()


def test_npm_brings_it_once(no_cache: Path, monkeypatch: pytest.MonkeyPatch, accepted: bytes) -> None:
    source = no_cache / "source.tgz"
    source.write_bytes(accepted)
    calls = no_cache / "calls"
    npm = no_cache / "npm"
    npm.write_text(f'#!/bin/sh\necho "$@" >> {calls}\ncp {source} "$5/{runtime.ARCHIVE}"\n')
    npm.chmod(0o755)
    monkeypatch.setattr("shutil.which", lambda name: str(npm))
    assert runtime.runtime_files() == runtime.runtime_files()
    assert calls.read_text().count(f"pack {runtime.PACKAGE}@{runtime.VERSION}") == 1


@pytest.mark.parametrize(
    ("script", "reason"),
    [("exit 1", "npm could not fetch"), (f'echo other > "$5/{runtime.ARCHIVE}"', "npm brought another"), ("true", "could not")],
)
def test_what_npm_can_not_bring_is_said(script: str, reason: str, no_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = no_cache / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setattr("shutil.which", lambda name: str(npm))
    with pytest.raises(runtime.RuntimeMissing, match=reason):
        runtime.runtime_files()
    assert not (runtime.cache_folder() / runtime.ARCHIVE).exists()
