"""onnxruntime-web, which runs networks in a browser: the npm package of one version, checked and cached.

The package comes through the user's own npm, so that mirrors and proxies that are configured there are used.
"""

import base64
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from stimcore import files
from stimcore.errors import UsageError

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""SHA-512 of the package's file in base64, as npm's registry lists it."""
ARCHIVE = f"{PACKAGE}-{VERSION}.tgz"
MEMBERS = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")
"""The files of the package's folder `dist` that a page needs: the build with SIMD, which is used with one thread."""
LICENSE = """onnxruntime-web, MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""
TIMEOUT_S = 300


class RuntimeMissing(Exception):
    """Why the package could not be had, in one sentence."""


def runtime_files(archive: Path | None = None) -> Mapping[str, bytes]:
    """Return the files that go into the site's folder `runtime`, by name.

    Args:
        archive: The package's file; when None the cached one, else the one that npm brings.

    Raises:
        UsageError: The given file can't be read, or is not the package of this version.
        RuntimeMissing: No file was given, none is cached, and npm brings none.
    """
    content = _given(archive) if archive is not None else _cached() or _packed()
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as package:
        members = {name: package.extractfile(f"package/dist/{name}") for name in MEMBERS}
        contents = {name: member.read() for name, member in members.items() if member is not None}
    return {**contents, "LICENSE.txt": LICENSE.encode()}


def cache_folder() -> Path:
    """Return the user's folder for what can be fetched again."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(base) if base else Path.home() / ".cache") / "stimcore"


def _is_package(content: bytes) -> bool:
    return base64.b64encode(hashlib.sha512(content).digest()).decode() == SHA512


def _given(archive: Path) -> bytes:
    try:
        content = archive.read_bytes()
    except OSError as reason:
        raise UsageError(f"{archive} can't be read ({reason.strerror or reason})") from reason
    if not _is_package(content):
        raise UsageError(
            f"{archive} is not {PACKAGE} {VERSION}: its SHA-512 is another one",
            todo=f"'npm pack {PACKAGE}@{VERSION}' fetches {ARCHIVE}.",
        )
    return content


def _cached() -> bytes | None:
    try:
        content = (cache_folder() / ARCHIVE).read_bytes()
    except OSError:
        return None
    return content if _is_package(content) else None


def _packed() -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeMissing(f"npm is not installed, which fetches {PACKAGE}; --runtime FILE takes {ARCHIVE} from elsewhere.")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", folder]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S, cwd=folder)
            content = (Path(folder) / ARCHIVE).read_bytes()
        except (OSError, subprocess.SubprocessError) as reason:
            raise RuntimeMissing(
                f"npm could not fetch {PACKAGE} {VERSION} ({type(reason).__name__}); --runtime FILE takes {ARCHIVE} from "
                "elsewhere."
            ) from reason
    if not _is_package(content):
        raise RuntimeMissing(f"npm brought another {PACKAGE} {VERSION} than the one that was checked: its SHA-512 differs.")
    with suppress(OSError):  # without a cache the next build fetches it again
        cache_folder().mkdir(parents=True, exist_ok=True)
        with files.replacing(cache_folder() / ARCHIVE) as temporary:
            temporary.write_bytes(content)
    return content
