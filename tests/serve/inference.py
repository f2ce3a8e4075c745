"""Inference requests for tests, well formed unless a test changes them, and the check that the server refuses one."""

import json
import socket
from typing import Any

import numpy as np

from tests.serve.processes import Running

URL = "/v2/models/tiny.common/infer"
ONE = np.zeros((1, 1, 12, 12), np.float32)


def tensor(**changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = {"name": "images", "datatype": "FP32", "shape": [1, 1, 12, 12], "data": ONE.ravel().tolist()}
    return {key: item for key, item in (value | changes).items() if item is not ...}


def body(**changes: Any) -> dict[str, Any]:
    return {key: item for key, item in ({"inputs": [tensor()]} | changes).items() if item is not ...}


def binary(header: dict[str, Any], data: bytes, length: int | str | None = None) -> dict[str, Any]:
    text = json.dumps(header).encode()
    return {
        "content": text + data,
        "headers": {"Inference-Header-Content-Length": str(len(text) if length is None else length)},
    }


def in_binary(data: bytes, size: Any, **changes: Any) -> dict[str, Any]:
    return binary(body(inputs=[tensor(data=..., parameters={"binary_data_size": size}, **changes)]), data)


def refused(server: Running, status: int | tuple[int, ...], match: str = "", url: str = URL, **words: Any) -> None:
    answer = server.http.request(words.pop("method", "POST"), url, **words)
    assert answer.status_code in (status if isinstance(status, tuple) else (status,)), answer.text[:300]
    value = answer.json()
    assert set(value) == {"error", "code"}
    assert match in value["error"]
    assert "Traceback" not in answer.text
    assert server.live()


def raw(server: Running, text: bytes, *, until: bytes = b"\r\n\r\n") -> bytes:
    """What the server answers to these bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(text)
        answer = b""
        while until not in answer and (piece := connection.recv(65536)):
            answer += piece
        return answer
