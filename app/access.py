"""Who may open the dashboard: this machine by default; others when `--server.address` says so.

A page of another site can reach a dashboard on 127.0.0.1 through the visitor's browser: under a name of its site that resolves
to 127.0.0.1 (DNS rebinding; `Host` gives it away) or with a WebSocket (`Origin` gives it away). Both headers must name an
address under which the dashboard is really offered.
"""

import ipaddress
import os
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

import streamlit as st
from starlette.types import ASGIApp, Receive, Scope, Send

HOSTS_VARIABLE = "STIMCORE_HOSTS"
"""Environment variable with further names of this dashboard, with commas: those under which a proxy offers it."""
ADDRESS_VARIABLE = "STIMCORE_ADDRESS"
"""Environment variable with the address under which others open the dashboard, where the machine's own is not the right one."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
POLICY_VIOLATION = 1008
"""Close code of a WebSocket that is refused, from RFC 6455."""


def is_local(address: str) -> bool:
    """Return whether an address to listen on can be reached from this machine alone.

    Example:
        >>> is_local("127.0.0.1"), is_local("localhost"), is_local("0.0.0.0"), is_local("")
        (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def own_names() -> frozenset[str]:
    """Return the names under which a proxy offers this dashboard, from `STIMCORE_HOSTS`."""
    return frozenset(name.strip().lower() for name in os.environ.get(HOSTS_VARIABLE, "").split(",") if name.strip())


def allows(address: str, names: Collection[str], host: str, origin: str) -> bool:
    """Return whether a request may be answered.

    Args:
        address: Address that the dashboard listens on.
        names: Further names of the dashboard.
        host: The request's `Host`; empty where there is none.
        origin: The request's `Origin`; empty where there is none.

    Example:
        >>> allows("127.0.0.1", (), "localhost:8501", "http://localhost:8501")
        True
        >>> allows("127.0.0.1", (), "evil.example", ""), allows("127.0.0.1", (), "localhost:8501", "https://evil.example")
        (False, False)
        >>> allows("0.0.0.0", (), "192.168.1.7:8501", "http://192.168.1.7:8501"), allows("0.0.0.0", (), "evil.example", "")
        (True, False)
    """
    name = _name(f"//{host}")
    if name not in names and name not in LOOPBACK and (is_local(address) or not _is_offered(name)):
        return False
    if not origin:
        return True
    other = _name(origin)
    # A tab on this machine may use another name of it than the page does; any other page must come from where it calls.
    return other == name or other in names or (other in LOOPBACK and name in LOOPBACK)


def is_this_machine() -> bool:
    """Return whether the visitor's browser runs on the machine of the dashboard.

    A proxy on this machine connects from here for everybody. It gives itself away by the name that it passes on, or by a header
    with the address that it connects for.
    """
    headers = st.context.headers
    if any(headers.get(name) for name in ("X-Forwarded-For", "Forwarded", "X-Real-Ip", "Via")):
        return False
    address = st.context.ip_address  # None for a browser on this machine
    if isinstance(address, str) and not is_local(address):
        return False
    return _name(f"//{headers.get('Host') or 'localhost'}") in LOOPBACK


def network_address() -> str:
    """Return this machine's address in its network, 127.0.0.1 where it is in none. Nothing is sent for that."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation; a datagram socket only looks up the route
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def announcement(address: str, port: int) -> str:
    """Return what is printed at the start: where others open the dashboard; empty when they can't.

    Example:
        >>> announcement("127.0.0.1", 8501)
        ''
        >>> announcement("192.168.1.7", 8501)
        'Everybody in this network can open the dashboard at http://192.168.1.7:8501 (there is no login).'
    """
    url = url_for_others(address, port)
    return f"Everybody in this network can open the dashboard at {url} (there is no login)." if url else ""


def url_for_others(address: str, port: int, path: str = "") -> str:
    """Return where other machines open the dashboard; empty when they can't.

    Args:
        address: Address that the dashboard listens on.
        port: Its port.
        path: Path under which a proxy serves it, without slashes around it.

    Example:
        >>> url_for_others("192.168.1.7", 8501, "class"), url_for_others("127.0.0.1", 8501)
        ('http://192.168.1.7:8501/class', '')
    """
    if is_local(address):
        return ""
    shown = network_address() if address in ("", "0.0.0.0", "::") else address
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}" + (f"/{path}" if path else "")


def shared_address() -> str:
    """Return the address of this dashboard for others: that of `STIMCORE_ADDRESS`, else this machine's in its network.

    It is empty where the dashboard listens on this machine alone.
    """
    given = os.environ.get(ADDRESS_VARIABLE, "").strip().rstrip("/")
    if given:
        return given if "://" in given else f"http://{given}"
    path = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return url_for_others(str(st.get_option("server.address") or ""), int(st.get_option("server.port")), path)


class HostCheck:
    """Answers only requests that name this dashboard; see `allows`.

    Args:
        app: The inner application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.names = app, own_names()
        self.address = str(st.get_option("server.address") or "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
        if allows(self.address, self.names, headers.get(b"host", ""), headers.get(b"origin", "")):
            if scope["type"] == "websocket":
                # Streamlit would compare the origin with the address of this machine on the internet, and ask a service for it.
                scope = {**scope, "headers": [(key, value) for key, value in scope["headers"] if key != b"origin"]}
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        else:
            body = f"This dashboard does not answer under this name. Its operator can add it to {HOSTS_VARIABLE}.".encode()
            head = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": head})
            await send({"type": "http.response.body", "body": body})


def _is_offered(name: str) -> bool:
    """Return whether a name is one that no other site can have: an address as a number, or the name of this machine."""
    machine = socket.gethostname().lower()
    if name in (machine, f"{machine}.local"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name(url: str) -> str:
    """Return the host of a URL in lower case; empty where the text is no URL."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
