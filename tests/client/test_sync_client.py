"""What only the plain client promises, and that it works where no event loop is."""

import threading
from collections.abc import Iterator

import pytest
import redis

from jobcast.client import Client, Unavailable, sync_link
from jobcast.event import Log
from jobcast.keys import Keys
from jobcast.wire import encode
from testbed.valkey import ValkeyServer
from tests.client.keeping import place
from tests.client.telling import event
from tests.conftest import until


def test_a_loop_left_by_break_leaves_no_subscription_behind(valkey: ValkeyServer, prefix: str) -> None:
    channel = Keys(prefix).channel("running")
    with redis.Redis(port=valkey.port) as admin, Client(valkey.url, prefix) as jobcast:

        def tell() -> None:
            until(lambda: admin.publish(channel, encode(event("running"))))

        telling = threading.Thread(target=tell)
        telling.start()
        for one in jobcast.events():
            assert one == event("running")
            break
        telling.join()
        until(lambda: not admin.pubsub_channels())


@pytest.mark.parametrize("feed", ["events", "stream", "follow"])
def test_closing_the_client_in_another_thread_ends_a_loop(valkey: ValkeyServer, prefix: str, feed: str) -> None:
    jobcast = Client(valkey.url, prefix)
    entered = threading.Event()
    ended = []

    def loop() -> None:
        feeds = {"events": jobcast.events, "stream": lambda: jobcast.stream("scoring"), "follow": jobcast.follow}
        with feeds[feed]() as items:
            entered.set()
            ended.extend(items)
            ended.append("ended")

    thread = threading.Thread(target=loop)
    thread.start()
    assert entered.wait(10)
    jobcast.close()
    thread.join(20)
    assert ended == ["ended"]


def test_a_closed_client_says_so_instead_of_connecting_again(valkey: ValkeyServer, prefix: str) -> None:
    with Client(valkey.url, prefix) as jobcast:
        assert jobcast.get("42") is None
    with pytest.raises(Unavailable, match="closed"):
        jobcast.get("42")
    with pytest.raises(Unavailable, match="closed"):
        jobcast.stream("scoring")


def test_threads_may_share_a_client(valkey: ValkeyServer, prefix: str) -> None:
    channel = Keys(prefix).channel("completed")
    heard: list[str] = []
    count = 6  # Valkey 9.1.2 answers NUMSUB with nonsense at exactly 8
    with redis.Redis(port=valkey.port) as admin, Client(valkey.url, prefix) as jobcast:

        def wait(eval_id: str) -> None:
            heard.append(jobcast.wait(eval_id, 10).eval_id)

        threads = [threading.Thread(target=wait, args=(str(i),)) for i in range(count)]
        for thread in threads:
            thread.start()
        until(lambda: dict(admin.pubsub_numsub(channel))[channel.encode()] == count)
        for i in range(count):
            admin.publish(channel, encode(event("completed", str(i))))
        for thread in threads:
            thread.join()
    assert sorted(heard) == [str(i) for i in range(count)]


def test_closing_the_client_in_another_thread_ends_the_reading_of_a_log(
    valkey: ValkeyServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered = threading.Event(), threading.Event()
    said: list[object] = []

    def read_slowly(ref: str) -> Iterator[bytes]:
        try:
            yield b"first"
            asked.set()
            answered.wait(20)
            yield b"second"
        finally:
            said.append("closed")

    monkeypatch.setattr(sync_link, "read_object", read_slowly)
    log = Log(state="complete", source="pod-a/main", ref=f"s3://bucket/{place(event('failed'))}", bytes=11)
    with redis.Redis(port=valkey.port) as admin:
        told = event("failed", log=log)
        fields = {"status": "failed", "uid": told.job.uid, "namespace": "evals", "name": "eval-42"}
        admin.hset(Keys(prefix).evaluation("42"), mapping=fields | {"event": encode(told)})
    jobcast = Client(valkey.url, prefix)

    def read() -> None:
        with pytest.raises(Unavailable, match="closed before the log was read to its end"):
            said.extend(jobcast.log("42"))

    thread = threading.Thread(target=read)
    thread.start()
    assert asked.wait(10)
    jobcast.close()
    answered.set()
    thread.join(20)
    assert said == [b"first", "closed"]
