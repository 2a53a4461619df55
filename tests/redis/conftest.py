"""The fixtures of the ledger, through which these tests drive the batcher."""

from tests.ledger.conftest import make_client, own, world

__all__ = ["make_client", "own", "world"]
