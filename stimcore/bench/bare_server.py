"""The least that serves a network over HTTP: one route of starlette in uvicorn, one onnxruntime session, nothing around them.

`bench serve` starts it beside the model server, as the floor of what HTTP costs in this process and on this machine. It reads
the same requests and checks nothing: no access control, no limits, no queue, no statistics, no second process.

    python -m stimcore.bench.bare_server MODEL.onnx

prints its port, and ends when its standard input closes.
"""

import json
import os
import socket
import sys
import threading

import numpy as np
import onnxruntime as ort
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stimcore.engine.cuda import CPU
from stimcore.engine.provider import session_options
from stimcore.serve.oip_codec import LENGTH_HEADER


def application(model: str) -> Starlette:
    """Return the application.

    Args:
        model: A self-contained ONNX file with input `images` and output `logits`.
    """
    session = ort.InferenceSession(model, session_options(1, flush_denormals=True), providers=[CPU])

    async def infer(request: Request) -> Response:
        body, length = await request.body(), request.headers.get(LENGTH_HEADER)
        head = body if length is None else body[: int(length)]
        tensor = json.loads(head)["inputs"][0]
        data = np.array(tensor["data"], np.float32) if length is None else np.frombuffer(body, np.float32, offset=int(length))
        logits = session.run(None, {"images": data.reshape(tensor["shape"])})[0]
        output = {"name": "logits", "datatype": "FP32", "shape": list(logits.shape)}
        if length is None:
            return Response(json.dumps({"outputs": [{**output, "data": logits.ravel().tolist()}]}))
        text = json.dumps({"outputs": [output]}).encode()
        return Response(text + logits.tobytes(), headers={LENGTH_HEADER: str(len(text))})

    return Starlette(routes=[Route("/infer", infer, methods=["POST"])])


def main(model: str) -> None:
    """Serve until standard input closes."""
    # asyncio sets TCP_NODELAY only on sockets that name their protocol, as those do that uvicorn opens; without it, a body that
    # follows its head waits 40 ms for an acknowledgement
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    # uvicorn's own choice of loop and parser, as for anybody who follows its documentation
    server = uvicorn.Server(uvicorn.Config(application(model), ws="none", log_level="warning", access_log=False))

    def end_after_input() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        server.should_exit = True

    threading.Thread(target=end_after_input, daemon=True).start()
    print(sock.getsockname()[1], flush=True)
    server.run(sockets=[sock])


if __name__ == "__main__":
    main(sys.argv[1])
