"""URLs of sentinels and clusters: what is wrong with one, how the primary is found, and that no password is shown."""

import pytest
import redis
import redis.asyncio

from jobcast.redis.connection import check_url, connect, connect_plain, explain, masked, secrets_of
from jobcast.redis.discovery import ClusterFinder, Node, SentinelFinder

SENTINELS = (
    "rediss+sentinel://user:pa%2Fss@one,two:26380,[::1]:3/mymaster/2?sentinel_password=s3cret&ssl_cert_reqs=none"
)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("redis+sentinel://one,two:26380", "name of the service that the sentinels watch is missing"),
        ("redis+sentinel://one/mymaster/x", "the database is not a number"),
        ("redis+sentinel://one,,two/mymaster", "the host is missing"),
        ("redis+sentinel://one,two:x/mymaster", "the host or port is invalid"),
        ("redis+sentinel:///mymaster", "the host is missing"),
        ("redis+cluster://one,/0", "the host is missing"),
        ("redis+cluster://one/1", "a cluster has only database 0"),
        ("redis+cluster://one:70000", "the host or port is invalid"),
        ("redis+cluster://hunter2@x@one:0x", "the host or port is invalid"),
        ("redis+proxy://user:hunter2@one", "the scheme 'redis\\+proxy'"),
        ("redis+sentinel://u:hun/ter2@one/mymaster", "the URL must be redis://"),
    ],
)
def test_a_wrong_url_is_rejected_and_nothing_of_it_repeated(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refused:
        check_url(url)
    assert "hunter2" not in str(refused.value)
    assert "ter2" not in str(refused.value)


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
def test_with_tls_sentinels_are_asked_over_tls_and_with_their_own_account(connecting: object, kind: type) -> None:
    client = connecting(SENTINELS)  # type: ignore[operator]
    connection = client.connection_pool.make_connection()
    assert isinstance(connection, kind)
    assert connection.base is kind
    assert (connection.username, connection.password, connection.db) == ("user", "pa/ss", 2)
    finder = client.connection_pool.connection_kwargs["finder"]
    assert isinstance(finder, SentinelFinder)
    assert finder.command[-1] == "mymaster"
    asking = finder.connection(kind, Node("two", 26380))
    assert (asking.username, asking.password, asking.db, asking.host) == (None, "s3cret", 0, "two")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (redis.exceptions.MovedError("6918 10.0.0.1:6379"), "MOVED 6918 10.0.0.1:6379 (another node"),
        (redis.exceptions.MasterDownError("MASTERDOWN Link is down"), "MASTERDOWN Link is down"),
        (redis.exceptions.AuthenticationError("invalid password"), "WRONGPASS invalid password (the user name"),
        (redis.exceptions.ConnectionError(), "ConnectionError"),
    ],
)
def test_an_explanation_begins_with_the_code_of_redis_once(error: Exception, text: str) -> None:
    assert explain(error).startswith(text)


def cluster_finder(**options: object) -> ClusterFinder:
    return ClusterFinder([Node("a", 1), Node("b", 2)], options, "test")  # slot 6918


def slots(*ranges: tuple[int, int, str | None, int]) -> list[list[object]]:
    return [
        [first, last, [host.encode() if host else host, port, b"id"], [b"replica", port + 100, b"id", []]]
        for first, last, host, port in ranges
    ]


def test_the_node_of_the_slot_is_found_and_one_without_an_address_is_the_asked_one() -> None:
    finder = cluster_finder()
    assert finder.parse_reply(slots((0, 6917, "x", 5), (6918, 16383, "y", 6)), Node("a", 1)) == Node("y", 6)
    assert finder.parse_reply(slots((0, 16383, None, 6)), Node("a", 1)) == Node("a", 6)
    assert finder.parse_reply(slots((0, 6917, "x", 5), (6919, 16383, "y", 6)), Node("a", 1)) is None


def test_nodes_of_the_cluster_are_asked_as_long_as_it_lists_them() -> None:
    finder = cluster_finder()
    finder.parse_reply(slots((0, 16383, "x", 5)), Node("a", 1))
    assert finder.nodes == (Node("a", 1), Node("b", 2), Node("x", 5), Node("replica", 105))
    finder.report_failure(Node("a", 1))
    finder.parse_reply(slots((0, 16383, "y", 6)), Node("b", 2))
    assert finder.nodes == (Node("b", 2), Node("a", 1), Node("y", 6), Node("replica", 106))
