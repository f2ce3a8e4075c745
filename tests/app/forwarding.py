"""A proxy on this machine that says for whom it connects, as nginx does.

Chromium sends the headers that a test adds with pages and files, but not with web sockets, which Streamlit reads them from.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

END = b"\r\n\r\n"
PIECE_BYTES = 65_536


@contextlib.contextmanager
def forwarding(url: str, visitor: str) -> Iterator[str]:
    """Give an address under which a proxy offers a dashboard.

    Args:
        url: Address of the dashboard.
        visitor: Address that the first request of every connection names in `X-Forwarded-For`.
    """
    place = urlsplit(url)
    target = (place.hostname or "127.0.0.1", place.port or 80)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with contextlib.suppress(OSError):  # the server is closed
                while True:
                    client, _ = server.accept()
                    threading.Thread(target=_connect, args=(client, target, visitor), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def _connect(client: socket.socket, target: tuple[str, int], visitor: str) -> None:
    with contextlib.suppress(OSError), client, socket.create_connection(target) as dashboard:
        head = b""
        while END not in head:
            piece = client.recv(PIECE_BYTES)
            if not piece:
                return
            head += piece
        dashboard.sendall(head.replace(b"\r\n", f"\r\nX-Forwarded-For: {visitor}\r\n".encode(), 1))
        back = threading.Thread(target=_pump, args=(dashboard, client), daemon=True)
        back.start()
        _pump(client, dashboard)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Send on what comes until one of both sides ends."""
    with contextlib.suppress(OSError):
        while piece := source.recv(PIECE_BYTES):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
