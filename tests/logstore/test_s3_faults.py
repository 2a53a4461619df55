"""An S3 server that is killed, hangs, rejects requests or is missing: noticed soon, explained, and no log waits."""

import asyncio
import re
import socket
from collections.abc import Iterator

import pytest

from jobcast.doctor import Verdict, storage
from jobcast.logstore import REFUSED, UNAVAILABLE, LogStoreError, Stored, Uploader, probe
from jobcast.logstore.fetch import read_object
from jobcast.logstore.objects import PART_BYTES
from testbed.ports import free_port
from tests.conftest import eventually
from tests.logstore.conftest import BUCKET, SECRET, S3Server, lead_to, opened, place, store_log

STORE = f"s3://{BUCKET}/faults"
SOON = 8.0
"""Seconds. Two attempts and their pauses take half a second, on a busy machine more. A request that hangs takes 30."""


class Hanging:
    """Accepts connections and never answers."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(100)
        self._socket.setblocking(False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def callers(self) -> int:
        """The number of connections since the last call."""
        count = 0
        while True:
            try:
                self._socket.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    server = Hanging()
    lead_to(server.url, monkeypatch)
    yield server
    server.close()


def assert_plain(error: object, reason: str, line: str) -> None:
    assert isinstance(error, LogStoreError)
    assert (error.reason, "\n" in str(error), SECRET in str(error)) == (reason, False, False)
    assert line in str(error)


async def test_a_server_that_is_killed_during_an_upload_is_noticed_soon(own_s3: S3Server) -> None:
    store = opened(STORE)
    uploader = Uploader(store, place(), stall_seconds=SOON)
    for _ in range(3):
        await uploader.feed(b"x" * PART_BYTES)  # the first part, at least, is sent
    own_s3.kill()
    async with asyncio.timeout(SOON):
        for _ in range(10):
            await uploader.feed(b"x" * PART_BYTES)
        assert_plain(await uploader.finish(), UNAVAILABLE, "faults: ")
    async with asyncio.timeout(SOON):
        await store.aclose()


async def test_a_server_that_works_again_is_used_again(own_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobcast.logstore.circuit.RETRY_SECONDS", 0.05)
    store = opened(STORE)
    assert isinstance(await store_log(store, place(), b"abc"), Stored)
    own_s3.kill()
    assert_plain(await store_log(store, place(), b"abcd"), UNAVAILABLE, "connection refused")
    own_s3.start()

    async def stored_again() -> Stored | None:
        stored = await store_log(store, place(), b"abcd")
        return stored if isinstance(stored, Stored) else None

    stored = await eventually(stored_again)
    assert b"".join(read_object(stored.ref)) == b"abcd"
    await store.aclose()


async def test_rejected_logs_do_not_delay_the_next_attempt(hanging: Hanging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobcast.logstore.circuit.RETRY_SECONDS", 0.5)
    store, calls = opened(STORE), 0
    for n in range(300):
        uploader = Uploader(store, place(f"pod-{n}"))
        await uploader.feed(b"abc")
        assert isinstance(await uploader.finish(limit=0.2), LogStoreError)
        await asyncio.sleep(0.01)
        calls += hanging.callers()
        if calls > 1:
            break
    else:
        pytest.fail("it was never tried again")
    await store.aclose()


@pytest.mark.parametrize("size", [3, 4 * PART_BYTES])
async def test_a_server_that_hangs_delays_nothing(hanging: Hanging, size: int) -> None:
    store = opened(STORE)
    uploader = Uploader(store, place(), stall_seconds=0.2)
    async with asyncio.timeout(SOON):
        for start in range(0, size, 65_536):
            await uploader.feed(b"x" * min(65_536, size - start))
        assert_plain(await uploader.finish(limit=0.5), UNAVAILABLE, "s")
        await store.aclose()
    assert hanging.callers() == 1


async def test_while_the_server_is_down_the_next_log_does_not_wait_for_it(hanging: Hanging) -> None:
    store = opened(STORE)
    for n in range(5):
        uploader = Uploader(store, place(f"pod-{n}"), stall_seconds=0.2)
        await uploader.feed(b"abc")
        async with asyncio.timeout(SOON):
            assert_plain(await uploader.finish(limit=0.5), UNAVAILABLE, "0.5 s")
    await store.aclose()
    assert hanging.callers() == 1


async def test_a_burst_does_not_wait_for_a_server_that_hangs(hanging: Hanging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobcast.logstore.circuit.SILENT_SECONDS", 0.2)
    store = opened(STORE)
    first = asyncio.create_task(store_log(store, place("first"), b"abc"))
    await eventually(store.circuit.rejection)
    with pytest.raises(LogStoreError, match="has not answered"):
        await store.new_upload(place("early")).write(b"abc")  # its bytes are not even held
    async with asyncio.timeout(SOON):
        burst = await asyncio.gather(*(store_log(store, place(f"pod-{n}"), b"abc") for n in range(50)))
    for error in burst:
        assert_plain(error, UNAVAILABLE, "has not answered for 0.2 s")
    assert hanging.callers() == 1 and not first.done()
    first.cancel()
    await asyncio.wait([first])
    await store.aclose()


async def test_an_upload_under_way_continues_when_another_one_fails(s3: S3Server) -> None:
    store = opened(STORE)
    uploader = Uploader(store, place("lucky"), stall_seconds=SOON)
    for _ in range(2):
        await uploader.feed(b"x" * PART_BYTES)
    await store.new_upload(place("unlucky")).abort(LogStoreError(UNAVAILABLE, "it took nothing for 2 s"))
    await uploader.feed(b"x" * PART_BYTES)
    stored = await uploader.finish(60)
    assert isinstance(stored, Stored) and stored.bytes == 3 * PART_BYTES
    await store.aclose()


async def test_wrong_credentials_are_refused(s3: S3Server) -> None:
    store = opened(STORE)
    s3.check_credentials(True)
    try:
        for data in (b"abc", b"x" * (PART_BYTES + 1)):
            assert_plain(await store_log(store, place(), data), REFUSED, "the store answered 403: InvalidAccessKeyId")
    finally:
        s3.check_credentials(False)
    await store.aclose()


async def test_a_missing_bucket_is_refused(s3: S3Server) -> None:
    store = opened("s3://nowhere/logs")
    for data in (b"abc", b"x" * (PART_BYTES + 1)):
        assert_plain(await store_log(store, place(), data), REFUSED, "the store answered 404: NoSuchBucket")
    with pytest.raises(LogStoreError, match="NoSuchBucket"):
        list(read_object(f"s3://nowhere/{place().path}"))
    await store.aclose()


async def test_an_account_that_may_not_read_can_store_a_log_but_not_replace_one(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    import obstore
    from obstore.exceptions import PermissionDeniedError

    async def head_async(*_: object) -> None:
        raise PermissionDeniedError("what S3 says of a missing object, too, to whom it does not show its lists")

    monkeypatch.setattr(obstore, "head_async", head_async)
    store = opened(STORE)
    stored = await store_log(store, place("unseen"), b"abc")
    assert isinstance(stored, Stored)
    assert_plain(await store_log(store, place("unseen"), b"ab"), UNAVAILABLE, "may not read it")
    assert b"".join(read_object(stored.ref)) == b"abc"
    await store.aclose()


async def test_a_missing_endpoint_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    lead_to(f"http://127.0.0.1:{free_port()}", monkeypatch)
    async with asyncio.timeout(SOON):
        with pytest.raises(LogStoreError, match="connection refused"):
            await probe(STORE)


async def test_an_endpoint_that_hangs_fails_the_probe(hanging: Hanging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobcast.logstore.probe.PROBE_SECONDS", 0.3)
    with pytest.raises(LogStoreError, match=re.escape("does not answer within 0.3 s")):
        await probe(STORE)


async def test_the_error_for_an_endpoint_without_tls_says_how_to_write_the_url(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url.replace("http://", "https://"))
    with pytest.raises(LogStoreError, match="does not speak TLS"):
        await probe(STORE)


async def test_the_check_of_a_log_store_writes_to_it(s3: S3Server) -> None:
    (good,) = await storage.log_store(STORE)
    (bad,) = await storage.log_store("s3://nowhere")
    assert await storage.log_store("redis") == []
    assert (good.verdict, good.line) == (Verdict.OK, f"{STORE} takes an object and returns it")
    assert (bad.verdict, bad.line) == (
        Verdict.BROKEN,
        "LOG_STORE s3://nowhere: the store answered 404: NoSuchBucket: The specified bucket does not exist",
    )
