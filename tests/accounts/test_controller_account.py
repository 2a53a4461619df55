"""The controller's account in Redis: it suffices for all that a controller does, and each of its rules is needed for something."""

import asyncio

from jobcast.keys import Keys
from jobcast.ledger.ledger import Ledger
from jobcast.ledger.trimming import Trimming
from jobcast.logs.index import LogIndex
from jobcast.logs.reader import LogPlace
from jobcast.redis.connection import connect
from tests.accounts.conftest import PREFIX, Accounts, rules_of
from tests.accounts.recording import Recording, broken_without, recording
from tests.controller.world import World


async def everything(world: World, url: str) -> None:
    """Jobs of every fate, told by two controllers."""
    async with world.controller(redis_url=url), world.controller(redis_url=url) as one:
        await asyncio.gather(
            world.run("good", "echo good"),
            world.run("bad", "echo bad; exit 3", backoffLimit=1),
            world.run("gone", "sleep 60"),
            world.run("suspended", "sleep 60", suspend=True),
        )
        await world.until("good", "completed")
        await world.until("gone", "running")
        await world.delete("gone")
        await world.until("gone", "cancelled")
        await world.until("suspended", "suspended")
        await world.until("bad", "failed")
        assert (await one.get("/readyz"))[0] == 200


async def rarely(url: str, made: Recording) -> None:
    """What a controller does at times that a test does not wait for."""
    client = connect(url, prefix=PREFIX)
    async with Ledger(client, Keys(PREFIX)) as ledger:
        assert await ledger.claim("uid")
        assert await ledger.claim("uid")  # renewed
        await ledger.release(["uid"])
        await ledger.keep(["uid"])
        await LogIndex(ledger, 60).add_pending_upload(
            LogPlace("evals", "name", "uid", "pod", "main", 0), "42", "pod-uid"
        )
        await Trimming(max_age=60, max_length=1, died=lambda group: None, revived=lambda group: None).trim(ledger)
        made.catch_up()
    await client.aclose()


async def test_the_account_suffices_and_each_of_its_rules_is_needed(accounts: Accounts, world: World) -> None:
    url = accounts.url("controller")
    with recording(accounts.admin_url, "controller") as made:
        await everything(world, url)
        # A group of somebody's that is behind, and holds something.
        accounts.admin.xgroup_create("{evaluation}:events", "theirs", id="0")
        accounts.admin.xreadgroup("theirs", "one", {"{evaluation}:events": ">"}, count=1)
        await rarely(url, made)
    broken = broken_without(accounts.admin, rules_of("controller"), made.kinds())
    assert not " ".join(rule for rule, what in broken.items() if not what)
