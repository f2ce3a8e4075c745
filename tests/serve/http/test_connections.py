"""The table of connections, with a clock of its own and connections that only note that they were closed."""

from stimcore.serve.http.addresses import parse_networks
from stimcore.serve.http.connections import GRACE_S, RESERVE, Aborts, ConnectionTable
from stimcore.serve.limits import Limits


class Connection:
    """A connection that is its own transport."""

    def __init__(self) -> None:
        self.aborted = False
        self.transport: Aborts = self

    def abort(self) -> None:
        self.aborted = True


def table(**limits: int) -> tuple[ConnectionTable, list[float]]:
    now = [0.0]
    return ConnectionTable(Limits(**limits), parse_networks(["10.0.0.0/8"]), clock=lambda: now[0]), now  # type: ignore[arg-type]


def test_a_reserve_stands_above_the_bound_and_its_oldest_goes_first() -> None:
    connections, _ = table(connections=3, connections_per_address=2)
    for address, accepted in (("1.1.1.1", True), ("1.1.1.1", True), ("1.1.1.1", False), ("2.2.2.2", True), ("3.3.3.3", False)):
        assert connections.add(Connection(), address) is accepted
    assert connections.counts() == {"open": 3, "half_open": 3, "reserve": 2}
    more = [Connection() for _ in range(3 * RESERVE)]
    for connection in more:
        assert not connections.add(connection, "4.4.4.4")
    assert connections.counts()["reserve"] == RESERVE
    assert [connection.aborted for connection in more] == [True] * 2 * RESERVE + [False] * RESERVE


def test_places_become_free_again() -> None:
    connections, _ = table(connections=2, connections_per_address=2)
    first, second, third = Connection(), Connection(), Connection()
    assert connections.add(first, "1.1.1.1")
    assert connections.add(second, "1.1.1.1")
    assert not connections.add(third, "1.1.1.1")
    for connection in (first, third, second):
        connections.remove(connection)
        connections.remove(connection)
    assert connections.counts() == {"open": 0, "half_open": 0, "reserve": 0}
    assert connections.add(Connection(), "1.1.1.1")


def test_the_oldest_half_open_connections_go_once_they_are_old() -> None:
    connections, now = table(half_open_per_address=2)
    early = [Connection() for _ in range(5)]
    for connection in early:
        connections.add(connection, "1.1.1.1")
    assert not any(connection.aborted for connection in early), "a burst is not cut"
    connections.head_complete(early[0])
    now[0] = GRACE_S
    connections.add(Connection(), "2.2.2.2")
    assert not any(connection.aborted for connection in early), "another address has nothing to do with it"
    connections.add(Connection(), "1.1.1.1")
    assert [connection.aborted for connection in early] == [False, True, True, True, False]


def test_trusted_proxies_stand_for_many() -> None:
    connections, now = table(connections=50, connections_per_address=2, half_open_per_address=2)
    through = [Connection() for _ in range(40)]
    assert all(connections.add(connection, "10.0.0.7") for connection in through)
    now[0] = 9
    assert connections.add(Connection(), "10.0.0.7")
    assert not any(connection.aborted for connection in through)
