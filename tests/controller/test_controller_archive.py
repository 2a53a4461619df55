"""Whole logs in a store outside Redis: exact, never in the way of an event, and uploaded later where the store was down."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from jobcast.reconcile.sweep import sweep_once
from jobcast.service.settings import CoreSettings
from tests.conftest import eventually
from tests.controller.world import Obj, World

BINARY = r"printf 'ok \377\376 end\n'"
EXACT = b"ok \xff\xfe end\n"


def stored(event: Obj) -> bytes:
    ref = event["log"]["ref"]
    assert ref.startswith("file:///")
    return Path(ref.removeprefix("file://")).read_bytes()


async def logs_in_the_record(world: World, eval_id: str) -> dict[str, Any]:
    record = await world.redis.hgetall(f"{{{world.prefix}}}:eval:{eval_id}")
    return {name.removeprefix("log:"): json.loads(value) for name, value in record.items() if name.startswith("log:")}


@pytest.mark.must_survive(17)
async def test_a_log_goes_whole_into_a_folder_and_the_event_leads_to_it(world: World, tmp_path: Path) -> None:
    async with world.controller(log_store=f"file://{tmp_path}"):
        uid = (await world.run("exact", BINARY))["metadata"]["uid"]
        event = await world.until("exact", "completed")
        pod = event["attempts"][0]["pod"]
        assert stored(event) == EXACT
        assert event["log"]["ref"] == f"file://{tmp_path}/{world.namespace}/exact/{uid}/{pod}/main.0.log"
        found = await eventually(lambda: logs_in_the_record(world, "exact"))
        assert found[f"{pod}/main/0"]["sha256"] == hashlib.sha256(EXACT).hexdigest()


@pytest.mark.must_survive(18)
async def test_a_log_longer_than_the_excerpt_and_the_limit_of_redis_is_whole_in_a_folder(
    world: World, tmp_path: Path
) -> None:
    async with world.controller(log_store=f"file://{tmp_path}", log_store_limit_bytes=1024):
        await world.run("long", "yes 0123456789abcde | head -c 20000000")
        event = await world.until("long", "completed", 60)
    whole = stored(event)
    assert (len(whole), event["log"]["bytes"], event["log"]["state"]) == (20_000_000, 20_000_000, "complete")
    assert hashlib.sha256(whole).hexdigest() == event["log"]["sha256"]
    assert event["output_truncated"]


@pytest.mark.must_survive(22)
async def test_a_store_that_is_down_delays_nothing_and_gets_the_log_from_the_sweep(
    world: World, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "logs"
    in_the_way.write_text("a file where a folder should be")
    store = f"file://{in_the_way}"
    async with world.controller(log_store=store):
        await world.run("early", BINARY)
        event = await world.until("early", "completed")
        assert (event["output"], event["log"]["state"]) == (EXACT.decode(errors="replace"), "complete")
        assert (event["log"]["ref"], event["log"]["reason"]) == (None, "store-refused")
        owed = await eventually(lambda: world.redis.hkeys(f"{{{world.prefix}}}:unstored"))
        assert len(owed) == 1

    settings = CoreSettings(
        redis_url=world.redis_url, namespaces=(world.namespace,), key_prefix=world.prefix, log_store=store
    )
    await sweep_once(settings)
    assert await world.redis.hkeys(f"{{{world.prefix}}}:unstored") == owed, "it is still away"
    in_the_way.unlink()
    assert await sweep_once(settings) == 0, "no event was missing"
    ((_, log),) = (await logs_in_the_record(world, "early")).items()
    assert Path(log["ref"].removeprefix("file://")).read_bytes() == EXACT
    assert (log["state"], log["reason"]) == ("complete", None)
    assert await world.redis.hkeys(f"{{{world.prefix}}}:unstored") == []


async def test_a_log_that_is_pending_and_whose_pod_is_gone_is_let_go(world: World, tmp_path: Path) -> None:
    in_the_way = tmp_path / "logs"
    in_the_way.write_text("")
    async with world.controller(log_store=f"file://{in_the_way}"):
        await world.run("gone", "echo x")
        await world.until("gone", "completed")
        await eventually(lambda: world.redis.hkeys(f"{{{world.prefix}}}:unstored"))
    await world.delete("gone")
    settings = CoreSettings(
        redis_url=world.redis_url,
        namespaces=(world.namespace,),
        key_prefix=world.prefix,
        log_store=f"file://{in_the_way}",
    )

    async def is_settled() -> bool:
        await sweep_once(settings)
        return not await world.redis.hkeys(f"{{{world.prefix}}}:unstored")

    await eventually(is_settled, 20)
