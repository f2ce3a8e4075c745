"""Who may open the dashboard: this machine by default; others when `--server.address` says so.

A page of another site can reach a dashboard on 127.0.0.1 through the visitor's browser: under a name of its site that resolves
to 127.0.0.1 (DNS rebinding; `Host` gives it away) or with a WebSocket (`Origin` gives it away). Both headers must name an
address under which the dashboard is really offered.
"""

import ipaddress
import logging
import os
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

import streamlit as st
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose
from streamlit import config

log = logging.getLogger("stimcore.app")
HOSTS_VARIABLE = "STIMCORE_HOSTS"
"""Environment variable with further names of this dashboard, with commas: those under which a proxy offers it."""
ADDRESS_VARIABLE = "STIMCORE_ADDRESS"
"""Environment variable with the address under which others open the dashboard, where the machine's own is not the right one."""
POLICY_VIOLATION = 1008
"""Close code of a WebSocket that is refused, from RFC 6455."""


def is_local(address: str) -> bool:
    """Return whether an address to listen on, or a name in `Host`, can be reached from this machine alone.

    Example:
        >>> is_local("127.0.0.1"), is_local("localhost"), is_local("0.0.0.0"), is_local("")
        (True, True, False, False)
    """
    address = address.removesuffix(".")  # of a name that is complete
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def own_names() -> frozenset[str]:
    """Return the names under which a proxy offers this dashboard: those in `STIMCORE_HOSTS` and in Streamlit's options."""
    names = [*os.environ.get(HOSTS_VARIABLE, "").split(","), str(config.get_option("browser.serverAddress") or "")]
    return frozenset(name.strip().lower() for name in names if name.strip() and not is_local(name.strip().lower()))


def answers_under(host: str, address: str, names: Collection[str]) -> bool:
    """Return whether the dashboard answers a request for this host.

    Args:
        host: The request's `Host`; empty where there is none.
        address: Address that the dashboard listens on.
        names: Further names of the dashboard.

    Example:
        >>> answers_under("localhost:8501", "127.0.0.1", ()), answers_under("evil.example", "127.0.0.1", ())
        (True, False)
        >>> answers_under("192.168.1.7:8501", "0.0.0.0", ()), answers_under("evil.example", "0.0.0.0", ())
        (True, False)
    """
    name = _name(f"//{host}")
    return name in names or is_local(name) or (not is_local(address) and _is_offered(name))


def accepts_page(origin: str, host: str, names: Collection[str]) -> bool:
    """Return whether a web page may connect to the dashboard.

    A page may if it comes from the address at which its request arrives, provided that this is no name that its owner can turn
    to any machine (DNS rebinding), or from a name of the dashboard. A tab on this machine may use another of its names.

    Args:
        origin: The request's `Origin`: scheme, host and port of the page.
        host: The request's `Host`.
        names: Further names of the dashboard, and of pages that may connect to it.

    Example:
        >>> host = "localhost:8501"
        >>> accepts_page("http://127.0.0.1:8501", host, ()), accepts_page("https://evil.example", host, ())
        (True, False)
    """
    page, name = _name(origin), _name(f"//{host}")
    return page in names or (is_local(page) and is_local(name)) or (page == name and _is_offered(page))


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
    return is_local(_name(f"//{headers.get('Host') or 'localhost'}"))


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
    path = str(config.get_option("server.baseUrlPath") or "").strip("/")
    return url_for_others(str(config.get_option("server.address") or ""), int(config.get_option("server.port")), path)


class HostCheck:
    """Answers only requests for this dashboard; see `answers_under`.

    Args:
        app: The inner application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.names = app, own_names()
        self.address = str(config.get_option("server.address") or "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket") or answers_under(_header(scope, b"host"), self.address, self.names):
            await self.app(scope, receive, send)
        else:
            reason = f"This dashboard does not answer under this name. Its operator can add it to {HOSTS_VARIABLE}."
            await _refuse(reason, scope, receive, send)


class OriginCheck:
    """Refuses web pages of other sites, which could otherwise connect to it in a visitor's browser; see `accepts_page`.

    Streamlit would do it, and asks the internet for this machine's address first. Here the decision needs no network, and
    Streamlit then sees an origin that it accepts without a question.

    Because every upload passes here, it needs no cookie against forged requests, and works in a frame where a browser keeps
    cookies of third parties from it.

    Args:
        app: The inner application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request of an accepted page on, and refuse that of another."""
        origin = _header(scope, b"origin") if scope["type"] in ("http", "websocket") else ""
        if origin:
            names = own_names() | {_name(str(one)) for one in config.get_option("server.corsAllowedOrigins") or ()}
            if config.get_option("server.enableCORS") and not accepts_page(origin, _header(scope, b"host"), names):
                log.warning(
                    "refused a page of %r; 'server.corsAllowedOrigins' or %s can allow it", origin[:200], HOSTS_VARIABLE
                )
                await _refuse("A page of another site sent this request.", scope, receive, send)
                return
            kept = [(name, value) for name, value in scope["headers"] if name != b"origin"]
            scope = {**scope, "headers": [*kept, (b"origin", b"http://localhost")]}
        await self.app(scope, receive, send)


def _header(scope: Scope, name: bytes) -> str:
    """Return a header of a request; empty where it has none."""
    return str(dict(scope["headers"]).get(name, b"").decode("latin-1"))


async def _refuse(reason: str, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await WebSocketClose(POLICY_VIOLATION)(scope, receive, send)
    else:
        await PlainTextResponse(reason, status_code=403)(scope, receive, send)


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
