"""Logs kept the way the service keeps them: through the log store and the log index."""

import hashlib
from typing import Any

from msgspec.structs import replace

from jobcast.event import Event, JobRef, Log
from jobcast.ledger.ledger import Ledger
from jobcast.logs.index import LogIndex
from jobcast.logstore import LogPlace, LogStore, open_log_store

LIMIT_BYTES = 4 * 1024 * 1024


class LogKeeper:
    """Keeps logs of the Job `job`, in Redis or in the store that a URL leads to."""

    def __init__(self, ledger: Ledger, job: JobRef, eval_id: str = "42", store: str = "redis") -> None:
        self._job = job
        self._eval_id = eval_id
        self._index = LogIndex(ledger, 1000)
        opened = open_log_store(store, put=self._index.put, limit=LIMIT_BYTES)
        assert opened is not None
        self._store: LogStore = opened

    def of(self, job: JobRef) -> "LogKeeper":
        other = LogKeeper.__new__(LogKeeper)
        other.__dict__ |= self.__dict__ | {"_job": job}
        return other

    async def keep(
        self, data: bytes, pod: str = "pod-a", container: str = "main", instance: int = 0, **more: Any
    ) -> Log:
        """Store it, and note it in row and record; `more` is what else is said of it there."""
        log = replace(await self.store(data, pod, container, instance), **more)
        await self._index.attach(self._place(pod, container, instance), self._eval_id, log)
        return log

    async def store(self, data: bytes, pod: str = "pod-a", container: str = "main", instance: int = 0) -> Log:
        """Store it, and note it nowhere."""
        upload = self._store.new_upload(self._place(pod, container, instance))
        await upload.write(data)
        kept = await upload.commit()
        is_whole = kept.bytes == len(data)
        return Log(
            state="complete" if is_whole else "truncated",
            reason=None if is_whole else "store-limit",
            bytes=len(data),
            source=f"{pod}/{container}",
            ref=kept.ref,
            sha256=hashlib.sha256(data).hexdigest(),
            instance=instance,
        )

    def _place(self, pod: str, container: str, instance: int) -> LogPlace:
        return LogPlace(self._job.namespace, self._job.name, self._job.uid, pod, container, instance)


def unkept(reason: str | None, pod: str = "pod-a", container: str = "main", instance: int = 0) -> Log:
    """A log that was not kept."""
    if reason in (None, "store-unavailable", "store-refused"):
        return Log(state="complete", reason=reason, source=f"{pod}/{container}", instance=instance, bytes=5)
    return Log(state="unavailable", reason=reason, source=f"{pod}/{container}", instance=instance)


def place(of: Event, pod: str = "pod-a", container: str = "main", instance: int = 0) -> str:
    """The path of a log in an object store."""
    return LogPlace(of.job.namespace, of.job.name, of.job.uid, pod, container, instance).path
