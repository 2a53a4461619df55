"""The claims of this replica: the Jobs whose logs it reads, and no other replica does."""

from jobcast.ledger.ledger import Ledger


class Claims:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._uids: set[str] = set()

    async def take(self, uid: str) -> bool:
        """False while another replica has it."""
        if uid not in self._uids:
            if not await self._ledger.claim(uid):
                return False
            self._uids.add(uid)
        return True

    async def renew(self) -> None:
        """To be called several times within CLAIM_SECONDS."""
        for uid in list(self._uids):
            if not await self._ledger.claim(uid):
                self._uids.discard(uid)

    async def release(self) -> None:
        """Let other replicas continue at once what this one has begun."""
        uids, self._uids = self._uids, set()
        await self._ledger.release(uids)

    def drop(self, uid: str) -> None:
        """Do not renew it: nothing is read of this Job any more."""
        self._uids.discard(uid)
