"""The claims of a replica: taken once, renewed while they are needed, and released for the others."""

from collections.abc import AsyncIterator

import fakeredis
import pytest

from jobcast.keys import Keys
from jobcast.ledger.ledger import Ledger
from jobcast.reconcile.claims import Claims

Pair = tuple[Claims, Claims]


@pytest.fixture
async def ledgers() -> AsyncIterator[tuple[Ledger, Ledger]]:
    server = fakeredis.FakeServer()
    clients = [fakeredis.FakeAsyncRedis(server=server) for _ in range(2)]
    async with Ledger(clients[0], Keys("test")) as one, Ledger(clients[1], Keys("test")) as two:
        yield one, two
    for client in clients:
        await client.aclose()


@pytest.fixture
def pair(ledgers: tuple[Ledger, Ledger]) -> Pair:
    return Claims(ledgers[0]), Claims(ledgers[1])


async def test_one_replica_has_a_claim_until_it_releases_it(pair: Pair) -> None:
    one, two = pair
    assert await one.take("a")
    assert await one.take("a"), "it has it"
    assert not await two.take("a")
    await one.release()
    assert await two.take("a")
    assert not await one.take("a"), "it does not believe that it still has it"


async def test_a_claim_that_was_lost_is_not_believed_after_the_next_renewal(
    pair: Pair, ledgers: tuple[Ledger, Ledger]
) -> None:
    one, two = pair
    assert await one.take("a")
    await ledgers[0].release(["a"])  # as when it expired
    assert await two.take("a")
    await one.renew()
    assert not await one.take("a")


async def test_a_claim_that_was_dropped_is_not_renewed(pair: Pair, ledgers: tuple[Ledger, Ledger]) -> None:
    one, _ = pair
    assert await one.take("a")
    one.drop("a")
    await ledgers[0].release(["a"])
    await one.renew()
    assert await ledgers[1].claim("a")
