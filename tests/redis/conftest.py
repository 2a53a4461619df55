"""The worlds of the ledger's tests: the batcher is tested through the ledger, its only user."""

from tests.ledger.conftest import make_client, own, world

__all__ = ["make_client", "own", "world"]
