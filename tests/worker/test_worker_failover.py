"""The worker over a failover, its broker and its stream on the same Redis behind sentinels, and the stream in a cluster."""

from pathlib import Path

import pytest
from workers import SCORE, Worker, completed, tell, world

from tests.conftest import until
from tests.valkeys.cluster import Cluster
from tests.valkeys.fixtures import DOUBLED_PREFIX
from tests.valkeys.sentinels import Watched


def guarded(watched: Watched) -> str:
    """The URL for accounts of the nodes and of the sentinels; whoever comes without them still does."""
    for one in watched.nodes:
        one.ask("ACL", "SETUSER", "worker", "on", ">pa/ss;word", "~*", "&*", "+@all")
    for one in watched.sentinels:
        one.ask("ACL", "SETUSER", "asker", "on", ">s3cret", "~*", "&*", "+@all")
    scheme, _, rest = watched.url.partition("://")
    return f"{scheme}://worker:pa%2Fss;word@{rest}?sentinel_username=asker&sentinel_password=s3cret"


@pytest.mark.must_survive(29)
@pytest.mark.must_survive(37)
@pytest.mark.parametrize(
    ("kill", "is_broker_alone", "pool"),
    [(True, False, "prefork"), (False, False, "threads"), (True, True, "threads")],
    ids=["killed", "demoted", "killed, and only the broker"],
)
def test_behind_sentinels_the_worker_goes_on_with_the_new_primary(
    valkey, watched: Watched, tmp_path: Path, kill, is_broker_alone, pool
) -> None:
    url = guarded(watched)
    stream = valkey.url if is_broker_alone else url
    env = {"CALLS_URL": valkey.url} | ({"CELERY_BROKER_URL": url} if is_broker_alone else {})
    with (
        world(valkey.url, "evaluation") as calls,
        world(stream, "evaluation") as redis,
        Worker(stream, tmp_path, SCORE, "-P", pool, "-c", "2", **env) as worker,
    ):
        tell(stream, "evaluation", completed("before"))
        until(lambda: calls.calls == ["score before completed"] and redis.is_done)
        until(lambda: worker.get("/readyz")[0] == 200)
        watched.fail_over(kill=kill)
        tell(stream, "evaluation", completed("after"))
        until(lambda: "score after completed" in calls.calls and redis.is_done)
        until(lambda: worker.reachable_again("broker") and worker.get("/readyz")[0] == 200)
        assert worker.unreachable("broker") <= 3
        assert "Connected to redis-sentinel://worker:" in worker.log
        for never in ("Traceback", "Unrecoverable", "ss;word", "ss%3Bword", "s3cret"):
            assert never not in worker.log


@pytest.mark.must_survive(27)
@pytest.mark.must_survive(37)
def test_sentinels_that_do_not_know_the_service_are_named_and_no_password_is(
    valkey, watched: Watched, tmp_path: Path
) -> None:
    url = guarded(watched).replace("/jobcast/", "/nobody/")
    with Worker(valkey.url, tmp_path, SCORE, CELERY_BROKER_URL=url) as worker:
        until(lambda: "says where the primary of 'nobody' is" in worker.get("/readyz")[1])
        assert f"127.0.0.1:{watched.sentinels[1].port}" in worker.get("/readyz")[1]
        for shown in (worker.log, worker.get("/readyz")[1]):
            assert "s3cret" not in shown
            assert "ss;word" not in shown
        assert worker.unreachable("broker") == 1


@pytest.mark.must_survive(29)
def test_in_a_cluster_the_worker_goes_on_with_the_new_primary(valkey, cluster: Cluster, tmp_path: Path) -> None:
    env = {"CALLS_URL": valkey.url, "CELERY_BROKER_URL": valkey.url, "KEY_PREFIX": DOUBLED_PREFIX}
    with (
        world(valkey.url, DOUBLED_PREFIX) as calls,
        world(cluster.url, DOUBLED_PREFIX) as redis,
        Worker(cluster.url, tmp_path, SCORE, **env) as worker,
    ):
        tell(cluster.url, DOUBLED_PREFIX, completed("before"))
        until(lambda: calls.calls == ["score before completed"] and redis.is_done)
        assert not worker.unreachable("redis") + worker.unreachable("broker"), "it has asked for the right node at once"
        cluster.fail_over()
        tell(cluster.url, DOUBLED_PREFIX, completed("after"))
        until(lambda: "score after completed" in calls.calls and redis.is_done)
        until(lambda: worker.get("/readyz")[0] == 200)
        assert "Traceback" not in worker.log
