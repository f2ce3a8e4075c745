"""Record what a client sends: `python record.py NAME=VERSION PROGRAM PYTHON` writes `NAME.json` in this folder.

A server on this machine answers every request with logits of zeros, and notes the request. PYTHON is the interpreter of an
environment that has the client.
"""

import base64
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MODEL, SHAPE = "tiny.common", [2, 1, 12, 12]
KEPT = ("content-type", "content-encoding", "inference-header-content-length")
"""Headers on which the meaning of a request depends."""


class Recorder(BaseHTTPRequestHandler):
    """Notes requests in `requests` of the class."""

    protocol_version = "HTTP/1.1"
    requests: list[dict[str, Any]] = []

    def do_GET(self) -> None:
        """Answer that everything is ready."""
        self._answer({"ready": True, "name": MODEL})

    def do_POST(self) -> None:
        """Note a request, and answer with zeros."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items() if name.lower() in KEPT}
        self.requests.append({"path": self.path, "headers": headers, "body": base64.b64encode(body).decode()})
        output = {"name": "logits", "datatype": "FP32", "shape": [SHAPE[0], 1], "data": [0.0] * SHAPE[0]}
        self._answer({"model_name": MODEL, "model_version": "1", "id": "mine", "outputs": [output]})

    def _answer(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Log nothing."""


def main(client: str, program: str, python: str) -> None:
    """Run a program against the recorder, and store what it sent."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = Path(__file__).parent
    words = [python, str(here / program), f"http://127.0.0.1:{server.server_port}", MODEL, json.dumps(SHAPE)]
    subprocess.run(words, check=True)
    name, _, version = client.partition("=")
    value = {"client": name, "version": version, "model": MODEL, "shape": SHAPE, "requests": Recorder.requests}
    (here / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
