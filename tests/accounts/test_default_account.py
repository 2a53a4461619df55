"""Whoever has not said who he is, is let in by no rule; though Redis 7 reads its own file with that account's rules."""

import pytest
import redis

from tests.accounts.conftest import Accounts


@pytest.mark.parametrize(
    "account", [{}, {"username": "default", "password": ""}, {"password": "for-trying-out-default"}]
)
def test_no_client_may_do_anything_without_an_account(accounts: Accounts, account: dict[str, str]) -> None:
    with redis.Redis(port=accounts.server.port, **account) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
