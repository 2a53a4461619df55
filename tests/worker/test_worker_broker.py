"""URLs and options of Celery's broker."""

import pytest
import redis
from celery import Celery
from kombu import Connection
from pydantic import ValidationError

from jobcast.redis.discovery import Node
from jobcast.service.settings import complaints
from worker.app import configuration
from worker.broker import SentinelTransport, of_redis
from worker.settings import WorkerSettings

CLUSTER = "redis+cluster://user:hunter2@one,two"
SENTINELS = "rediss+sentinel://user:pa%2Fss@one,two:26380/svc/2?sentinel_username=s&sentinel_password=s3cret"


def celery() -> Celery:
    """With the settings that the environment asks for."""
    app = Celery(set_as_current=False)
    app.conf.update(configuration(WorkerSettings()))
    return app


@pytest.mark.parametrize(
    ("url", "account", "place"),
    [
        ("redis://localhost", (None, None), ("localhost", 6379, "0")),
        ("redis://user:a%3Bb%2Fc;d@[::1]:1/3", ("user", "a;b/c;d"), ("::1", 1, "3")),
        ("redis://h?db=4&password=x&socket_timeout=3&client_name=me", (None, "x"), ("h", 6379, "4")),
        ("redis+sentinel://:pw@one,two/svc/5", (None, "pw"), ("one", 26379, "5")),
    ],
)
def test_kombu_reads_the_same_as_we_do_whatever_the_url_says(url, account, place) -> None:
    broker = of_redis(url)
    connection = Connection(broker.url, transport_options=broker.options)
    assert (connection.userid, connection.password) == account
    assert (connection.hostname, connection.port, connection.virtual_host) == place
    assert connection.alt == []


def test_options_of_the_url_hold_for_the_broker_too(monkeypatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://h?socket_timeout=3&client_name=me")
    options = configuration(WorkerSettings())["broker_transport_options"]
    assert (options["socket_timeout"], options["client_name"], options["socket_connect_timeout"]) == (3.0, "me", 2.0)


@pytest.mark.parametrize("scheme", ["rediss://h", "rediss+sentinel://h/svc"])
@pytest.mark.parametrize(("option", "asked"), [("", "required"), ("?ssl_cert_reqs=none", "none")])
def test_with_tls_the_brokers_certificate_is_checked_unless_the_url_says_otherwise(
    scheme, option, asked, monkeypatch
) -> None:
    monkeypatch.setenv("REDIS_URL", scheme + option)
    app = celery()
    assert app.connection_for_write().ssl == {"ssl_cert_reqs": asked}
    kind = app.connection_for_write().transport.Channel.connection_class_ssl
    assert issubclass(kind, redis.SSLConnection)


def test_sentinels_are_asked_by_tls_and_by_their_own_account(monkeypatch) -> None:
    monkeypatch.setenv("REDIS_URL", SENTINELS)
    finder = configuration(WorkerSettings())["broker_transport_options"]["finder"]
    assert finder.nodes == (Node("one", 26379), Node("two", 26380))
    assert finder.command[-1] == "svc"
    assert (finder._options["username"], finder._options["password"]) == ("s", "s3cret")


@pytest.mark.parametrize("name", ["REDIS_URL", "CELERY_BROKER_URL"])
def test_every_connection_of_celerys_finds_the_primary(name, monkeypatch) -> None:
    monkeypatch.setenv(name, SENTINELS)
    app = celery()
    with app.pool.acquire() as pooled, app.producer_pool.connections.acquire() as producing:
        for connection in (app.connection_for_read(), app.connection_for_write(), app.connection(), pooled, producing):
            assert isinstance(connection.transport, SentinelTransport)
            assert connection.password == "pa/ss"
            assert connection.as_uri() == "redis-sentinel://user:**@one:26379/2"
            assert connection.transport_options["finder"].nodes


def refused() -> str:
    with pytest.raises(ValidationError) as error:
        WorkerSettings()
    (line,) = complaints(error.value)
    return line


@pytest.mark.parametrize("empty", [True, False])
def test_a_cluster_needs_a_broker_beside_it(empty, monkeypatch) -> None:
    monkeypatch.setenv("REDIS_URL", CLUSTER)
    if empty:
        monkeypatch.setenv("CELERY_BROKER_URL", "")
    assert refused().removeprefix("CELERY_BROKER_URL: ").removeprefix("'': ") == (
        "REDIS_URL leads to a cluster, which cannot be Celery's broker; give one of its own"
    )
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://there")
    assert WorkerSettings().broker.url == "redis://there"


@pytest.mark.must_survive(36)
@pytest.mark.must_survive(37)
@pytest.mark.parametrize(
    ("url", "says"),
    [
        (CLUSTER, "a cluster cannot be Celery's broker"),
        ("redis+sentinel://user:hunter2@one,two", "name of the service that the sentinels watch is missing"),
        ("redis+sentinel://user:hunter2@one/svc?retries=3", "an option after the ?"),
        ("redis+sentinel://user:hunter2@one/svc;redis://two", "the database is not a number"),
        ("redis://two;redis+sentinel://user:hunter2@one/svc", "it must be a broker that Celery knows"),
        ("sentinel://user:hunter2@one:26379/0", "it must be a broker that Celery knows"),
    ],
)
def test_a_broker_that_cannot_be_one_is_refused(url, says, monkeypatch) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", url)
    line = refused()
    assert line.startswith("CELERY_BROKER_URL: ")
    assert says in line
    assert "hunter2" not in line
