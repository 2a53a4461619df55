"""The account that docs/deployment.md has for a subscriber with a consumer group of its own."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobcast.client import AsyncClient
from tests.accounts.conftest import PREFIX, Accounts
from tests.accounts.recording import broken_without, recording
from tests.client.telling import event, telling_to

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"


@pytest.fixture
def rules(accounts: Accounts) -> Iterator[list[str]]:
    (line,) = re.findall(r"^user mine on #… (.+)$", PAGE.read_text(), re.MULTILINE)
    accounts.admin.execute_command("ACL", "SETUSER", "mine", "on", ">for-trying-out-mine", *line.split())
    yield ["on", *line.split()]
    accounts.admin.acl_deluser("mine")


async def test_it_reads_takes_over_and_acknowledges_and_each_rule_is_needed(
    accounts: Accounts, rules: list[str]
) -> None:
    with recording(accounts.admin_url, "mine") as made:
        async with telling_to(accounts.admin_url, PREFIX) as teller:
            await teller.tell(event("running"))
        async with AsyncClient(accounts.url("mine"), PREFIX) as client:
            await client.ping()
            async with client.stream("mine", "one", start="0") as entries:
                assert (await anext(entries)).event.status == "running"
    assert accounts.refusals("mine") == []
    broken = broken_without(accounts.admin, rules, made.kinds())
    assert {rule for rule, what in broken.items() if not what} == set()
