"""Addresses: a client can't choose the one that it counts under."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stimcore.errors import UsageError
from stimcore.serve.errors import TooMany
from stimcore.serve.http.addresses import UNKNOWN, AddressCounter, address_group, client_address, parse_networks

PROXIES = parse_networks(["10.0.0.0/8", "fd00::/8"])


def scope(peer: str | None, *forwarded: str) -> dict[str, object]:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    return {"client": None if peer is None else (peer, 40000), "headers": headers}


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        ("10.0.0.7", [], "10.0.0.7"),
        ("10.0.0.7", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.7", ["198.51.100.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.7", ["198.51.100.1", "203.0.113.9"], "203.0.113.9"),
        ("10.0.0.7", ["203.0.113.9, 10.0.0.8"], "203.0.113.9"),
        ("10.0.0.7", ["203.0.113.9, 10.0.0.8, nonsense, 10.0.0.9"], "10.0.0.9"),
        ("10.0.0.7", ["nonsense"], "10.0.0.7"),
        ("10.0.0.7", [""], "10.0.0.7"),
        ("10.0.0.7", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("::ffff:10.0.0.7", ["203.0.113.9"], "203.0.113.9"),
        ("fd00::1", ["2001:db8::5"], "2001:db8::5"),
        (None, ["203.0.113.9"], UNKNOWN),
        ("10.0.0.7", ["203.0.113.9:4444"], "203.0.113.9"),
        ("10.0.0.7", ["203.0.113.9:4444, 10.0.0.8:80"], "203.0.113.9"),
        ("10.0.0.7", ["[2001:db8::1]:80"], "2001:db8::1"),
        ("10.0.0.7", ["[2001:db8::1]"], "2001:db8::1"),
        ("10.0.0.7", ["203.0.113.9:4444:5"], "10.0.0.7"),
        ("10.0.0.7", ["unknown:80"], "10.0.0.7"),
    ],
)
def test_the_last_address_that_no_trusted_proxy_has(peer: str | None, forwarded: list[str], address: str) -> None:
    assert client_address(scope(peer, *forwarded), PROXIES) == address


@given(st.text(alphabet="0123456789abcdef.:, ", max_size=200), st.ip_addresses())
def test_whatever_a_client_writes_before_its_proxy_changes_nothing(written: str, real: object) -> None:
    expected = client_address(scope("10.0.0.7", str(real)), PROXIES)
    if not any(real in network for network in PROXIES):
        assert client_address(scope("10.0.0.7", f"{written}, {real}"), PROXIES) == expected


def test_networks_are_checked() -> None:
    for bad in ("", "proxy", "10.0.0.0/33", "10.0.0.1/8", "1.2.3"):
        with pytest.raises(UsageError, match="is no address"):
            parse_networks([bad])


def test_addresses_of_one_ipv6_network_count_as_one() -> None:
    counter = AddressCounter(2, "event streams")
    with counter.one("2001:db8::1"), counter.one("2001:db8::2"):
        with pytest.raises(TooMany, match="2 event streams"):
            with counter.one("2001:db8::ffff"):
                pass
        with counter.one("2001:db8:0:1::1"):
            assert counter.count("2001:db8::7") == 2
    assert counter.count("2001:db8::1") == 0
    assert address_group("no address") == "no address"
