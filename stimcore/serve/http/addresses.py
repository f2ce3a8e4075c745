"""Addresses of clients: which one a request comes from, which ones count as the same client, and how much each one has open.

Names that clients send (`X-Stimcore-Client`) are free to choose, so that bounds per name alone would hold nobody back.
"""

import contextlib
import functools
import ipaddress
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from starlette.types import Scope

from stimcore.errors import UsageError
from stimcore.serve.errors import TooMany

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IPV6_PREFIX = 64
"""Leading bits of an IPv6 address that count: one customer of a provider has all addresses that share them."""
UNKNOWN = "unknown"
"""Address of a client without one, as behind a Unix socket."""
REMEMBERED = 1024
"""Texts of addresses whose parsed form is remembered: a connection sends many requests from the same one."""
MAX_FORWARDED_CHARS = 2048
"""Length of `X-Forwarded-For` that is read, from its end: the last entries are those that trusted proxies wrote."""
_WITH_PORT = re.compile(r"(?P<v4>[^:\[\]]+):\d{1,5}|\[(?P<v6>[^\[\]]+)\](?::\d{1,5})?", re.ASCII)


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Return the networks that texts name, each an address or a network such as `10.0.0.0/8`.

    Raises:
        UsageError: A text is neither.

    Example:
        >>> parse_networks(["127.0.0.1", "10.0.0.0/8"])
        (IPv4Network('127.0.0.1/32'), IPv4Network('10.0.0.0/8'))
    """
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as reason:
            raise UsageError(f"'{text[:80]}' is no address", allowed="as in 10.0.0.7 or 10.0.0.0/8") from reason
    return tuple(networks)


def is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    """Return whether an address belongs to one of the trusted proxies."""
    parsed = _parse(address)
    return parsed is not None and any(parsed in network for network in trusted)


def client_address(scope: Scope, trusted: Sequence[Network]) -> str:
    """Return the address of the client that sent a request.

    Args:
        scope: ASGI scope of the request.
        trusted: Proxies whose `X-Forwarded-For` counts. Every proxy appends the address of its peer, so that the last entry
            that is no trusted proxy is the client; whatever stands before it was written by the client itself.

    Example:
        >>> scope = {"client": ("10.0.0.7", 1), "headers": [(b"x-forwarded-for", b"1.2.3.4, 203.0.113.9")]}
        >>> client_address(scope, ()), client_address(scope, parse_networks(["10.0.0.0/8"]))
        ('10.0.0.7', '203.0.113.9')
    """
    address = scope["client"][0] if scope.get("client") else UNKNOWN
    if not is_trusted(address, trusted):
        return address
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    for entry in reversed(",".join(values)[-MAX_FORWARDED_CHARS:].split(",")):
        parsed = _parse(without_port(entry.strip()))
        if parsed is None:
            break
        address = str(parsed)
        if not is_trusted(address, trusted):
            break
    return address


def without_port(entry: str) -> str:
    """Return an entry of `X-Forwarded-For` without the port that some proxies add, and without brackets.

    Example:
        >>> without_port("203.0.113.9:4444"), without_port("[2001:db8::1]:80"), without_port("2001:db8::1")
        ('203.0.113.9', '2001:db8::1', '2001:db8::1')
    """
    number = _WITH_PORT.fullmatch(entry)
    return entry if number is None else number["v4"] or number["v6"]


@functools.lru_cache(REMEMBERED)
def address_group(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the network of an IPv6 address.

    Example:
        >>> address_group("2001:db8::1:2"), address_group("::ffff:10.0.0.7"), address_group("10.0.0.7")
        ('2001:db8::/64', '10.0.0.7', '10.0.0.7')
    """
    parsed = _parse(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(parsed), IPV6_PREFIX), strict=False))
    return address if parsed is None else str(parsed)


@functools.lru_cache(REMEMBERED)
def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a text names, IPv4 where it is one within IPv6; None where it names none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


class AddressCounter:
    """Counts something that every address may have open only so many times.

    Args:
        limit: Number that one address may have.
        what: Name of the thing in sentences, in the plural.

    Example:
        >>> streams = AddressCounter(1, "event streams")
        >>> with streams.one("10.0.0.7"), streams.one("10.0.0.8"):
        ...     streams.count("10.0.0.7")
        1
    """

    def __init__(self, limit: int, what: str) -> None:
        self._limit, self._what = limit, what
        self._counts: Counter[str] = Counter()

    def count(self, address: str) -> int:
        """Return the number that an address has open."""
        return self._counts[address_group(address)]

    @property
    def total(self) -> int:
        """The number that all addresses have open."""
        return self._counts.total()

    @contextlib.contextmanager
    def one(self, address: str) -> Iterator[None]:
        """Count one more for an address while the block runs.

        Raises:
            TooMany: The address has as many as it may.
        """
        group = address_group(address)
        if self._counts[group] >= self._limit:
            raise TooMany(f"this address has {self._limit} {self._what} open", todo="Try again in a moment.")
        self._counts[group] += 1
        try:
            yield
        finally:
            self._counts[group] -= 1
            if not self._counts[group]:
                del self._counts[group]  # or every address that ever came would be remembered
