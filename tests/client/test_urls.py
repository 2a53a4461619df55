"""URLs of sentinels and clusters: what they mean, what is wrong with them, and that nobody sees their passwords."""

import pytest
import redis
import redis.asyncio

from jobcast.client.address import address, where
from jobcast.redis.connection import check_url, connect, connect_plain, masked, secrets_of
from jobcast.redis.discovery import ClusterFinder, Node, SentinelFinder

SENTINELS = (
    "rediss+sentinel://user:pa%2Fss@one,two:26380,[::1]:3/mymaster/2?sentinel_password=s3cret&ssl_cert_reqs=none"
)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (SENTINELS, "one:26379, two:26380, ::1:3, service mymaster, database 2"),
        ("redis+sentinel://one/mymaster", "one:26379, service mymaster"),
        ("redis+cluster://:pw@one,two:7001", "one:6379, two:7001"),
        ("rediss+cluster://one:1/0?ssl_ca_certs=/ca.pem", "one:1"),
        ("redis://user:pw@one/3", "one:6379, database 3"),
    ],
)
def test_where_a_url_leads_is_said_without_its_account(url: str, said: str) -> None:
    assert where(address(url)) == said
    assert check_url(url) == url


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("redis+sentinel://one,two:26380", "no name of the service"),
        ("redis+sentinel://one/mymaster/x", "the database is not a number"),
        ("redis+sentinel://one,,two/mymaster", "no host"),
        ("redis+sentinel://one,two:x/mymaster", "host and port do not parse"),
        ("redis+sentinel:///mymaster", "no host"),
        ("redis+cluster://one,/0", "no host"),
        ("redis+cluster://one/1", "no database but 0"),
        ("redis+cluster://one:70000", "host and port do not parse"),
        ("redis+cluster://hunter2@x@one:0x", "host and port do not parse"),
        ("redis+proxy://user:hunter2@one", "scheme 'redis\\+proxy'"),
        ("redis+sentinel://u:hun/ter2@one/mymaster", "it must be redis://"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused_and_nothing_of_it_repeated(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refused:
        check_url(url)
    assert "hunter2" not in str(refused.value)
    assert "ter2" not in str(refused.value)


@pytest.mark.parametrize("option", ["sentinel_password=x", "no_such=1", "retry=3", "finder=x"])
def test_an_option_that_is_not_for_this_url_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=r"after the \?"):
        address(f"redis://one/0?{option}")


@pytest.mark.must_survive(37)
def test_passwords_of_both_accounts_are_masked() -> None:
    assert masked(SENTINELS) == ("rediss+sentinel://user:***@one,two:26380,[::1]:3/mymaster/2?sentinel_password=***")
    assert masked("rediss+cluster://:pw@one,two") == "rediss+cluster://:***@one,two"
    assert {"pa/ss", "s3cret"} <= secrets_of(SENTINELS)


@pytest.mark.must_survive(37)
@pytest.mark.parametrize("connecting", [connect, connect_plain])
def test_no_client_shows_a_password(connecting: object) -> None:
    client = connecting(SENTINELS)  # type: ignore[operator]
    pool = client.connection_pool
    shown = f"{client!r} {pool!r} {pool.make_connection()!r} {pool.connection_kwargs['finder']!r}"
    assert "s3cret" not in shown
    assert "pa/ss" not in shown


@pytest.mark.parametrize(
    ("connecting", "kind"), [(connect, redis.asyncio.SSLConnection), (connect_plain, redis.SSLConnection)]
)
def test_with_tls_sentinels_are_asked_by_tls_and_by_their_own_account(connecting: object, kind: type) -> None:
    client = connecting(SENTINELS)  # type: ignore[operator]
    connection = client.connection_pool.make_connection()
    assert isinstance(connection, kind)
    assert connection.plain is kind
    assert (connection.username, connection.password, connection.db) == ("user", "pa/ss", 2)
    finder = client.connection_pool.connection_kwargs["finder"]
    assert isinstance(finder, SentinelFinder)
    assert finder.question[-1] == "mymaster"
    asking = finder.connection(kind, Node("two", 26380))
    assert (asking.username, asking.password, asking.db, asking.host) == (None, "s3cret", 0, "two")


def cluster_finder(**options: object) -> ClusterFinder:
    return ClusterFinder([Node("a", 1), Node("b", 2)], options, "test")  # slot 6918


def slots(*ranges: tuple[int, int, str | None, int]) -> list[list[object]]:
    return [
        [first, last, [host.encode() if host else host, port, b"id"], [b"replica", port + 100, b"id", []]]
        for first, last, host, port in ranges
    ]


def test_the_node_of_our_slot_is_found_and_one_without_an_address_is_the_one_that_was_asked() -> None:
    finder = cluster_finder()
    assert finder.read(slots((0, 6917, "x", 5), (6918, 16383, "y", 6)), Node("a", 1)) == Node("y", 6)
    assert finder.read(slots((0, 16383, None, 6)), Node("a", 1)) == Node("a", 6)
    assert finder.read(slots((0, 6917, "x", 5), (6919, 16383, "y", 6)), Node("a", 1)) is None


def test_nodes_that_the_cluster_names_are_asked_as_long_as_it_names_them() -> None:
    finder = cluster_finder()
    finder.read(slots((0, 16383, "x", 5)), Node("a", 1))
    assert finder.nodes == (Node("a", 1), Node("b", 2), Node("x", 5), Node("replica", 105))
    finder.doubt(Node("a", 1))
    finder.read(slots((0, 16383, "y", 6)), Node("b", 2))
    assert finder.nodes == (Node("b", 2), Node("a", 1), Node("y", 6), Node("replica", 106))
