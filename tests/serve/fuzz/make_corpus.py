"""Write the parts of the corpus that a program can make: `python -m tests.serve.fuzz.make_corpus`.

Pictures are of one colour or of noise that is drawn with a seed, so that no licence is needed.
"""

import gzip
import io
import json
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.serve.fuzz.inputs import CLASSIFY, CORPUS, INFERENCE, JOB
from tests.serve.test_image_codec import jpeg


def write(kind: str, files: dict[str, bytes]) -> None:
    """Write the files of a kind."""
    folder = CORPUS / kind
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        Path(folder, name).write_bytes(data)


def png(size: tuple[int, int], mode: str = "L") -> bytes:
    """Return a PNG file of one colour: a large one is small."""
    out = io.BytesIO()
    Image.new(mode, size).save(out, "PNG")
    return out.getvalue()


def noise(name: str) -> bytes:
    """Return a small file of noise with metadata."""
    pixels = np.random.default_rng(7).integers(0, 256, (11, 9, 3), dtype=np.uint8)
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112], exif[0x011A], exif[0x0131] = 6, 72.5, "a camera"
    Image.fromarray(pixels).save(out, name, exif=exif.tobytes())
    return out.getvalue()


def main() -> None:
    """Write everything."""
    write(
        "pictures",
        {
            "noise.png": noise("PNG"),
            "noise.jpg": noise("JPEG"),
            "palette.png": png((12, 12), "P"),
            "wide.png": png((8000, 3)),
            "large-2-megapixels.png": png((2000, 1000), "1"),
            "progressive.jpg": jpeg((200, 160)),
            "many-scans.jpg": jpeg((64, 64), 50),
            "no-picture.gif": b"GIF89a" + bytes(20),
        },
    )
    write(
        "json",
        {
            "inference.json": json.dumps(
                {**INFERENCE, "inputs": [{**INFERENCE["inputs"][0], "data": [0, 1.5, -2e-7]}]}
            ).encode(),
            "job.json": json.dumps(JOB).encode(),
            "classify.json": json.dumps(CLASSIFY).encode(),
            "unterminated.json": b'{"inputs": "' + b'\\"' * 2000,
            "deep.json": b"[" * 3000,
            "texts-as-numbers.json": json.dumps({"inputs": [{"data": ["x" * 500, *["y"] * 500]}]}).encode(),
        },
    )
    write(
        "gzip",
        {
            "zeros-8-megabytes.gz": gzip.compress(bytes(8_000_000), 9, mtime=0),
            "two-members.gz": gzip.compress(b"{}", 9, mtime=0) * 2,
            "name-in-head.gz": b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * 3000,
            "stored.zlib": zlib.compress(json.dumps(JOB).encode(), 0),
        },
    )
    two_lengths = (
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    write(
        "http",
        {
            "get.http": b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            "two-lengths.http": two_lengths,
            "chunks.http": b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"1\r\n \r\n" * 50,
            "no-chunk.http": b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n",
            "many-headers.http": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 300 + b"\r\n",
            "tls.http": bytes.fromhex("16030100c8010000c40303") + bytes(40),
        },
    )


if __name__ == "__main__":
    main()
