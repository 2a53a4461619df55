"""The worker's account in Redis: it suffices for all that a worker does, Celery's part too, and each rule is needed."""

import asyncio
import sys
from pathlib import Path

import pytest
from celery import Celery
from kombu import Exchange, Queue

from jobcast.keys import Keys
from jobcast.ledger.index import repair_index
from jobcast.ledger.ledger import Ledger
from jobcast.ledger.trimming import Trimming
from jobcast.logs.index import LogIndex
from jobcast.logs.reader import LogPlace
from jobcast.redis.connection import connect, connect_plain
from testbed.ports import free_port
from tests.accounts.conftest import PREFIX, Accounts, rules_of
from tests.accounts.recording import Recording, broken_without, recording
from tests.client.telling import BIRTH, event, progress, telling_to
from tests.conftest import eventually
from tests.controller.world import World
from tests.parts import Part
from worker.group import Group

HANDLERS = """
from jobcast import on

@on("completed", queue="{evaluation}:shared")
def shared(event):
    pass

@on("failed", max_retries=0)
def hopeless(event):
    raise RuntimeError("no")

@on("failed", retry_backoff=60)
def waits_for_its_retry(event):
    raise RuntimeError("not yet")
"""
KEYS = Keys(PREFIX)
OLDER = {"&/0.celeryev/worker.*"}
"""Redis 7 lets subscribe to a pattern only when the account has that very one; Valkey 9, when it has a wider one."""


async def test_the_account_suffices_and_each_of_its_rules_is_needed(
    accounts: Accounts, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, admin = accounts.url("worker"), accounts.admin
    (tmp_path / "handling.py").write_text(HANDLERS)
    environment = {
        "REDIS_URL": url,
        "HANDLERS": "handling",
        "PYTHONPATH": str(tmp_path),
        "NAMESPACES": world.namespace,
        "SWEEP_SECONDS": "0.5",
        "WORKER_HTTP_PORT": str(port := free_port()),
        "HTTP_HOST": "127.0.0.1",
    }
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "worker",
        "worker",
        "-P",
        "threads",
        "-c",
        "2",
        "-n",
        "w@here",
        "-E",
    ]
    with recording(accounts.admin_url, "worker") as made:
        worker = Part("worker", command, environment, port, tmp_path, "/readyz")
        try:
            await asyncio.to_thread(worker.wait)
            await world.run("good", "echo good")
            await world.run("bad", "echo bad; exit 3")
            await eventually(lambda: admin.xlen(KEYS.dead) == 1)
            admin.xadd(KEYS.replays, admin.xrange(KEYS.events)[0][1])
            await eventually(lambda: admin.xlen(KEYS.replays) == 0)
            with Celery("operator", broker=accounts.admin_url, set_as_current=False) as operator:
                assert await asyncio.to_thread(operator.control.ping, ["w@here"], 20, limit=1)
                made.catch_up()
        finally:
            worker.stop()
            assert accounts.refusals("worker") == [], worker.log.read_text()
        # A consumer that went, and a group beyond the end of its stream.
        admin.xgroup_createconsumer(KEYS.events, "worker", "gone")
        admin.xgroup_setid(KEYS.events, "worker", "99999999999999-0")
        monkeypatch.setattr("worker.group.FORGET_AFTER", -1)
        await rarely(url, made)
    broken = broken_without(admin, rules_of("worker"), made.kinds())
    assert {rule for rule, what in broken.items() if not what} == OLDER
    assert accounts.refusals("worker") == []


async def rarely(url: str, made: Recording) -> None:
    """What a worker does at times that a test does not wait for."""
    client = connect(url, prefix=PREFIX)
    async with Ledger(client, KEYS) as ledger:
        await ledger.claim("uid")
        await ledger.claim("uid")  # renewed
        await ledger.release(["uid"])
        book, place = LogIndex(ledger, 60), LogPlace("evals", "name", "uid", "pod", "main", 0)
        await book.add_pending_upload(place, "42", "pod-uid")
        await book.mark_uploaded(place)
        await repair_index(ledger)
        await Trimming(max_age=60, max_length=1, died=lambda group: None, revived=lambda group: None).trim(ledger)
        made.catch_up()
    await client.aclose()
    async with telling_to(url, PREFIX) as teller:
        # What the sweep finds of one that goes on, and of another Job of the same evaluation.
        await teller.tell(event("running", "again", uid="first"))
        await teller.tell_progress(progress("attempt-ended", "again"))
        await teller.tell(event("running", "again", uid="second"), created=BIRTH + 1)
        made.catch_up()
    plain = connect_plain(url, prefix=PREFIX)
    group = Group(plain, KEYS, "another")
    group.rewind()
    group.claim(0, 10)
    group.forget_the_dead()
    made.catch_up()
    plain.close()
    with Celery("one that ends", broker=url, set_as_current=False) as app, app.connection() as connection:
        # As Celery takes away the queue for its orders when it ends; by then nobody may know any more whose connection it was.
        everybody = Exchange("celery.pidbox", "fanout")
        orders = Queue("one.celery.pidbox", everybody, auto_delete=True, channel=connection.channel())
        orders.declare()
        orders.delete()
        made.catch_up()
