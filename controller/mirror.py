"""The cluster as this replica knows it: the objects, the Jobs to be reconciled, and the watches that bring both."""

from controller.namespace import JobStore, NamespaceWatch, PodStore
from controller.reflector import Source, WatchStatus
from controller.store import Store
from controller.workqueue import Workqueue
from jobcast.kube import JOBS, PODS, Api
from jobcast.reconcile.reconciler import Reconciler


class Mirror:
    """Needs a running event loop."""

    def __init__(self) -> None:
        self.store = Store()
        self.queue = Workqueue()
        self.watches: list[NamespaceWatch] = []

    def add_watch(
        self, api: Api, namespace: str | None, selector: str, reconciler: Reconciler, *, holds: bool
    ) -> NamespaceWatch:
        """Of a namespace, or of all (None). `holds`: Jobs get our finalizer."""
        # Pods of a Job with manualSelector have no label that tells them from others: the store looks at their owner.
        pods = Source(api, PODS, namespace, ""), PodStore(namespace, self.store, self.queue)
        jobs = JobStore(namespace, self.store, self.queue, reconciler, holds=holds)
        watch = NamespaceWatch(pods, (Source(api, JOBS, namespace, selector), jobs), self.queue.release)
        self.watches.append(watch)
        return watch

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
