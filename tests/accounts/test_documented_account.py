"""The account that the documentation gives a subscriber with a consumer group of its own: it suffices, and for nothing else."""

import re
from pathlib import Path

from jobcast.client import Client
from tests.accounts.conftest import PREFIX, Accounts
from tests.accounts.recording import Asked, broken_without, recording, refused
from tests.client.telling import event, telling_to

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"
FORBIDDEN = ("XADD {evaluation}:events * a b", "DEL {evaluation}:events", "XGROUP DESTROY {evaluation}:events worker")


async def test_a_group_of_ones_own_needs_just_the_rules_of_the_page(accounts: Accounts) -> None:
    (line,) = re.findall(r"^user mine (.*)$", PAGE.read_text(), re.MULTILINE)
    rules = [rule for rule in line.split() if not rule.startswith("#")]
    accounts.admin.execute_command("ACL", "SETUSER", "mine", "reset", *rules, ">for-trying-out-mine")
    async with telling_to(accounts.admin_url, PREFIX) as teller:
        await teller.tell(event("running"), event("completed"))
    with (
        recording(accounts.admin_url, "mine", scripts=False) as made,
        Client(accounts.url("mine"), PREFIX) as client,
        client.stream("mine") as entries,
    ):
        client.ping()
        for _ in range(2):
            next(entries).ack()
        made.catch_up()
    assert accounts.refusals("mine") == []
    broken = broken_without(accounts.admin, rules, made.kinds())
    assert not " ".join(rule for rule, what in broken.items() if not what)
    asked = [Asked(tuple(command.encode().split())) for command in FORBIDDEN]
    assert len(refused(accounts.admin, "mine", asked)) == len(asked)
