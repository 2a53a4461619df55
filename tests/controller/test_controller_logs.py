"""Logs, from the container to the event and the store: exact, bounded, and never in anybody else's way."""

import hashlib
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
import zstandard

from jobcast.logs import rotation
from tests.conftest import eventually
from tests.controller.world import Obj, World

MEGABYTE = 1024 * 1024


async def _stored(world: World, event: Obj) -> bytes:
    """What `log.ref` leads to."""
    kind, _, key = event["log"]["ref"].partition(":")
    assert kind == "redis"
    async with redis.asyncio.Redis.from_url(world.redis_url) as raw:
        return bytes(zstandard.decompress(await raw.get(key)))


@pytest.mark.must_survive(17)
@pytest.mark.parametrize(
    ("script", "exact"),
    [
        ("""printf '{"a": 1, "b": [true, null]}'""", b'{"a": 1, "b": [true, null]}'),
        (r"printf 'ok \377\376 \303\050 end\n'", b"ok \xff\xfe \xc3\x28 end\n"),
        (r"printf 'a\r\nb\r\0c'", b"a\r\nb\r\0c"),
        ("printf 'Zürich 雪 🌍'", "Zürich 雪 🌍".encode()),
    ],
    ids=["json", "not-utf-8", "controls", "utf-8"],
)
async def test_a_log_is_stored_exactly_and_shown_as_text(world: World, script: str, exact: bytes) -> None:
    async with world.controller():
        await world.run("exact", script)
        event = await world.until("exact", "completed")
    log = event["log"]
    assert await _stored(world, event) == exact
    assert event["output"] == exact.decode(errors="replace")
    assert (log["state"], log["reason"], log["bytes"]) == ("complete", None, len(exact))
    assert log["sha256"] == hashlib.sha256(exact).hexdigest()
    assert event["output_truncated"] is False


async def test_an_empty_log_is_complete_and_stored_nowhere(world: World) -> None:
    async with world.controller():
        await world.run("silent")
        event = await world.until("silent", "completed")
    assert (event["output"], event["log"]["state"], event["log"]["bytes"]) == ("", "complete", 0)
    assert event["log"]["ref"] is None


@pytest.mark.must_survive(23)
async def test_a_log_that_is_empty_the_second_time_does_not_erase_the_stored_one(world: World) -> None:
    """Redis forgets what was published, but not the log; meanwhile the kubelet has cleaned up."""
    async with world.controller():
        await world.run("kept", "echo kept")
        event = await world.until("kept", "completed")
        world.fault("lost", verb="log", message="", times=None)
        await world.redis.delete(
            f"{{{world.prefix}}}:job:{event['job']['uid']}", f"{{{world.prefix}}}:epoch", f"{{{world.prefix}}}:events"
        )
        world.is_redis_steady = False
        await world.until("kept", "completed")
    assert await _stored(world, event) == b"kept\n"


@pytest.mark.must_survive(18)
async def test_fifty_megabytes_in_one_line_are_counted_to_the_byte_and_kept_within_the_limits(world: World) -> None:
    limit, excerpt, size = 100_000, 4096, 50 * MEGABYTE
    script = f"printf begin; head -c {size - 8} /dev/zero | tr '\\0' x; printf end"
    exact = b"begin" + b"x" * (size - 8) + b"end"
    async with world.controller(log_store_limit_bytes=limit, log_excerpt_bytes=excerpt, log_wait_seconds=60):
        await world.run("huge", script)
        event = await world.until("huge", "completed", 60)
    log = event["log"]
    assert (log["state"], log["reason"]) == ("truncated", "store-limit")
    assert log["bytes"] == size
    assert log["sha256"] == hashlib.sha256(exact).hexdigest()
    assert await _stored(world, event) == exact[:limit]
    assert event["output_truncated"] is True
    assert event["output"].startswith("beginxxx")
    assert event["output"].endswith("xxxend")
    assert len(event["output"]) <= excerpt + 100
    assert f"{size - excerpt} bytes left out" in event["output"]


async def test_with_no_store_the_excerpt_is_all_that_is_kept(world: World) -> None:
    async with world.controller(log_store="none"):
        await world.run("unstored", "echo shown")
        event = await world.until("unstored", "completed")
    assert (event["output"], event["log"]["ref"]) == ("shown\n", None)
    assert [key async for key in world.redis.scan_iter(f"{{{world.prefix}}}:log:*")] == []


@pytest.mark.must_survive(22)
@pytest.mark.parametrize("fields", [{}, {"after_bytes": 3}], ids=["headers-only", "half-way"])
async def test_a_log_that_hangs_delays_its_own_job_alone_and_only_so_long(world: World, fields: dict[str, Any]) -> None:
    wait = 3.0  # five Jobs of a busy machine take less
    async with world.controller(log_wait_seconds=wait):
        world.fault("stall", verb="log", name=None, **fields)
        await world.run("hanging", "echo never seen")
        await eventually(lambda: world.wiretap.of("log"))
        begun = time.monotonic()
        for number in range(5):
            await world.run(f"other-{number}", "echo seen")
        for number in range(5):
            assert (await world.until(f"other-{number}", "completed"))["output"] == "seen\n"
        assert "completed" not in await world.statuses("hanging"), "the others were not behind it"
        event = await world.until("hanging", "completed")
        assert 0.8 * wait < time.monotonic() - begun < 10 * wait
    assert (event["log"]["state"], event["log"]["reason"]) == ("unavailable", "timeout")
    assert (event["exit_code"], event["output"]) == (0, "")


@pytest.mark.must_survive(19)
async def test_a_pod_that_is_gone_before_its_log_was_read_is_said_to_be(world: World) -> None:
    async with world.controller():
        world.fault("status", code=404, verb="log", times=None)
        await world.run("vanished", "exit 9")
        event = await world.until("vanished", "failed")
    assert (event["log"]["state"], event["log"]["reason"]) == ("unavailable", "pod-gone")
    assert event["exit_code"] == 9, "the Pod published it while it was there"


@pytest.mark.must_survive(19)
async def test_a_log_that_the_node_no_longer_has_is_not_taken_for_its_sentence(world: World) -> None:
    async with world.controller():
        world.fault("lost", verb="log", times=None)
        await world.run("cleaned", "echo once")
        event = await world.until("cleaned", "completed")
    assert (event["output"], event["log"]["state"]) == ("", "unavailable")
    assert event["log"]["reason"] == "container-gone"


@pytest.mark.must_survive(19)
async def test_the_logs_are_read_before_a_job_is_removed_the_moment_it_ends(world: World) -> None:
    async with world.controller():
        for number in range(10):
            await world.run(f"brief-{number}", f"echo {number}; sleep 0.05", ttlSecondsAfterFinished=0)
        for number in range(10):
            event = await world.until(f"brief-{number}", "completed")
            # Whether the log was there is the kubelet's race; a log that was not is never an empty one.
            assert event["output"] == f"{number}\n" or event["log"]["state"] == "unavailable"


@pytest.mark.must_survive(5)
async def test_a_kubelet_that_asks_us_to_wait_is_asked_again_after_so_long(world: World) -> None:
    async with world.controller():
        world.fault("status", code=429, retry_after=1, verb="log")
        await world.run("throttled", "echo patient")
        event = await world.until("throttled", "completed")
        first, second, *_ = world.wiretap.of("log")
    assert event["output"] == "patient\n"
    assert second.at - first.at >= 1


@pytest.mark.must_survive(20)
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "cut", "after_bytes": 3},
        {"kind": "cut", "after_bytes": 33},
        {"kind": "cut", "rst": True},
        {"kind": "status", "code": 503},
        {"kind": "status", "code": 500},
        {"kind": "status", "code": 401, "times": 1},
    ],
    ids=["cut", "cut in a line", "reset", "503", "500", "expired-token"],
)
async def test_a_log_that_broke_off_is_read_to_its_end(world: World, fault: dict[str, Any]) -> None:
    async with world.controller():
        world.fault(**{"verb": "log", "times": 2} | fault)
        await world.run("broken", "echo whole")
        event = await world.until("broken", "completed")
    assert (event["output"], event["log"]["state"], event["log"]["bytes"]) == ("whole\n", "complete", 6)


@pytest.mark.must_survive(5)
async def test_a_retry_after_of_nothing_makes_no_hot_loop_of_log_reads(world: World) -> None:
    async with world.controller(log_wait_seconds=1):
        world.fault("status", code=503, retry_after=0, verb="log", times=None)
        await world.run("refused")
        event = await world.until("refused", "completed")
    assert event["log"]["reason"] == "timeout"
    assert len(world.wiretap.of("log")) < 10


async def test_logs_that_we_may_not_read_are_said_to_be_refused(world: World) -> None:
    async with world.controller():
        world.fault("status", code=403, verb="log", times=None)
        await world.run("secret", "echo unseen")
        event = await world.until("secret", "completed")
    assert (event["log"]["state"], event["log"]["reason"], event["output"]) == ("unavailable", "refused", "")


A_TIME = "2026-11-30T07:24:39.123456789Z "
"""What the kubelet writes before a line: only its length counts."""
THREE = b"one\ntwo\nthree\n"


async def _log_in_row(world: World, event: Obj) -> Obj:
    """What the Job's row says of its main container's log now."""
    row = await world.redis.hgetall(f"{{{world.prefix}}}:job:{event['job']['uid']}")
    (found,) = (value for field, value in row.items() if field.startswith("log:"))
    log: Obj = json.loads(found)
    return log


@pytest.mark.must_survive(38)
@pytest.mark.parametrize("passing", [10, 31, 33, 35, 36, 68, 70, 103], ids=str)
async def test_a_log_whose_answer_ends_as_if_it_were_whole_is_read_to_its_end(world: World, passing: int) -> None:
    """The API server lost the kubelet in the middle of the log."""
    async with world.controller():
        world.fault("end", verb="log", after_bytes=passing, times=2)
        await world.run("ended-early", "echo one; echo two; echo three")
        event = await world.until("ended-early", "completed")
    assert (event["output"].encode(), event["log"]["state"]) == (THREE, "complete")
    assert event["log"]["sha256"] == hashlib.sha256(THREE).hexdigest()
    assert await _stored(world, event) == THREE


@pytest.mark.must_survive(38)
@pytest.mark.must_survive(22)
async def test_a_log_whose_end_is_not_proved_in_time_is_truncated_and_whole_later(world: World) -> None:
    # The last two lines pass, the three do not.
    passing = len(f"{A_TIME}two\n{A_TIME}three\n")
    async with world.controller(log_wait_seconds=1):
        world.fault("end", verb="log", after_bytes=passing, times=None)
        await world.run("late", "echo one; echo two; echo three")
        event = await world.until("late", "completed")
        assert (event["log"]["state"], event["log"]["reason"]) == ("truncated", "unproved")
        assert (event["output"], event["log"]["bytes"], event["log"]["ref"]) == ("one\ntwo\n", 8, None)
        assert len(world.wiretap.of("log")) < 20
        world.cluster.faults.clear()

        async def is_whole() -> bool:
            with suppress(ValueError):
                return (await _log_in_row(world, event))["state"] == "complete"
            return False

        await eventually(is_whole)
        assert await _stored(world, {"log": await _log_in_row(world, event)}) == THREE


@pytest.mark.must_survive(38)
async def test_a_followed_log_whose_answer_ends_while_its_container_runs_is_followed_on(
    world: World, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    script = f"trap '' TERM; echo one; while [ ! -e {gate} ]; do sleep 0.05; done; echo two; echo three"
    async with world.controller():
        await world.run("killed", script, activeDeadlineSeconds=1)
        for _ in range(3):
            await eventually(lambda: world.strike("end", verb="log"))
        gate.touch()
        event = await world.until("killed", "failed")
    assert (event["output"].encode(), event["log"]["state"]) == (THREE, "complete")
    assert await _stored(world, event) == THREE


@pytest.mark.must_survive(38)
@pytest.mark.parametrize(
    "words",
    [
        'failed to try resolving symlinks in path "/var/log/pods/x/0.log": lstat /var/log/pods/x: no such file or directory',
        'failed to open log file "/var/log/pods/x/0.log": open /var/log/pods/x/0.log: no such file or directory',
        "rpc error: code = NotFound desc = an error occurred when try to find container",
        "x",
    ],
)
async def test_no_error_message_of_the_kubelet_is_taken_for_the_log(world: World, words: str) -> None:
    async with world.controller():
        world.fault("lost", verb="log", message=words, times=None)
        await world.run("cleaned", "echo once")
        event = await world.until("cleaned", "completed")
    assert (event["output"], event["log"]["state"], event["log"]["reason"]) == ("", "unavailable", "container-gone")


@pytest.mark.must_survive(38)
async def test_an_instance_that_ended_is_never_said_to_have_never_started(world: World) -> None:
    async with world.controller():
        world.fault("status", code=400, message="container is waiting to start", verb="log", times=None)
        await world.run("behind", "exit 42")
        event = await world.until("behind", "failed")
    assert (event["exit_code"], event["log"]["state"], event["log"]["reason"]) == (42, "unavailable", "container-gone")


@pytest.mark.must_survive(38)
async def test_a_kubelet_that_is_behind_is_asked_again(world: World) -> None:
    async with world.controller():
        world.fault("status", code=400, message="container is waiting to start", verb="log", times=2)
        await world.run("behind", "echo there")
        event = await world.until("behind", "completed")
    assert (event["output"], event["log"]["state"]) == ("there\n", "complete")


@pytest.mark.must_survive(18)
@pytest.mark.must_survive(40)
async def test_a_large_log_is_read_while_its_container_runs_so_that_its_event_has_an_excerpt(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "CHECK_SECONDS", (0.1, 0.2))
    monkeypatch.setattr(rotation, "LARGE_LINES", 50)
    gate = tmp_path / "gate"
    exact = b"".join(b"%d\n" % number for number in range(1, 1001)) + b"end\n"
    async with world.controller(log_wait_seconds=1):
        await world.run("large", f"seq 1 1000; while [ ! -e {gate} ]; do sleep 0.05; done; echo end")
        await eventually(lambda: any(request.query.get("follow") for request in world.wiretap.of("log")))
        world.fault("stall", verb="log", times=None)  # from now on no log is answered: its end cannot be proved
        gate.touch()
        event = await world.until("large", "completed")
        assert (event["log"]["state"], event["log"]["ref"]) == ("truncated", None)
        assert event["log"]["reason"] in ("timeout", "unproved")
        assert (event["output"].encode(), event["log"]["bytes"]) == (exact, len(exact))
        world.cluster.faults.clear()
        world.strike("cut", verb="log")

        async def is_whole() -> bool:
            with suppress(ValueError):
                return (await _log_in_row(world, event))["state"] == "complete"
            return False

        await eventually(is_whole)
        assert await _stored(world, {"log": await _log_in_row(world, event)}) == exact
