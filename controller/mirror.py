"""The cluster as this replica knows it: the objects, the Jobs to be reconciled, and the watches that bring both."""

from controller.namespace import NamespaceWatch
from controller.reflector import WatchStatus
from controller.store import Store
from controller.workqueue import Workqueue


class Mirror:
    """Needs a running event loop. `watches` are added when the replica starts to watch."""

    def __init__(self) -> None:
        self.store = Store()
        self.queue = Workqueue()
        self.watches: list[NamespaceWatch] = []

    @property
    def statuses(self) -> list[WatchStatus]:
        return [status for watch in self.watches for status in watch.statuses]

    @property
    def is_synced(self) -> bool:
        return all(status.synced.is_set() for status in self.statuses)

    async def wait_until_synced(self) -> None:
        for status in self.statuses:
            await status.synced.wait()

    def relist(self) -> None:
        for watch in self.watches:
            watch.relist()
