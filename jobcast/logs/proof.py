"""Reads one log until it is proved to be read to its end: the requests that this takes, and the pauses between them.

The end of an answer does not mean that the log ends there: a log is complete only if its last line, requested after the container
ended, is the last line that was read. Otherwise the read continues until the log is gone.

A log that was followed must begin with the same line as well: the kubelet serves the current file only, and if it began a new one
in the meantime, nobody can tell whether the follower got the last lines of the old one.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from jobcast.kube.errors import KubeError, NotFound, Throttled, Unauthorized, Unreachable
from jobcast.logs.read import LogBody, NoLog, ReadSlot
from jobcast.logs.rotation import Key
from jobcast.logs.stamps import Differs
from jobcast.logstore.base import LogPlace

RETRY_SECONDS = (0.2, 2.0)
"""First and longest pause between attempts: a busy kubelet answers within a second or two."""
MISSING_TRIES = 4
"""How often a log is requested that the kubelet does not have: it may be behind the API server, or rotate the log at this moment."""
ROTATED = "rotated"
"""`log.reason`: the kubelet rotated the log, and lines are missing or may be."""


class Wanted(NamedTuple):
    """A log to read."""

    place: LogPlace
    pod_uid: str
    eval_id: str
    follow: bool = False
    """The container is being killed, and the kubelet may remove its log as soon as it ends: read while it runs."""
    previous: bool = False
    """The log is that of the instance before the container's last restart."""
    has_started: bool = True
    """False if the container never ran."""
    ahead: bool = False
    """The container runs and the log is large: read it while no log of an ended container needs the slot."""

    @property
    def key(self) -> Key:
        return (self.pod_uid, self.place.container, self.place.instance)


@dataclass(slots=True)
class Instance:
    """What is known of the container instance whose log is read. It may change during the read."""

    has_ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Its log grows no more."""
    is_urgent: asyncio.Event = field(default_factory=asyncio.Event)
    """It has ended or is being killed."""
    is_previous: bool = False
    """It was restarted, perhaps after the read was requested: a later attempt must not read the next instance."""

    def note(self, wanted: Wanted) -> None:
        """What this request says about it, which may have changed since the last one."""
        self.is_previous |= wanted.previous
        if not wanted.follow:
            self.has_ended.set()
        if not wanted.ahead:
            self.is_urgent.set()


async def read_until_proved(wanted: Wanted, instance: Instance, body: LogBody, slot: ReadSlot) -> str | None:
    """Returns why the log is incomplete; None when it is complete."""
    pause, longest = RETRY_SECONDS
    missing, size = 0, -1
    while True:
        wait = 0.0
        has_ended = instance.has_ended.is_set()
        if body.excerpt.size > size:
            size, pause, missing = body.excerpt.size, RETRY_SECONDS[0], 0
        try:
            if wanted.follow:
                await body.look_for_rotation(previous=instance.is_previous)
            async with _asking_once_ended(instance, body):
                # Only the log of a running container is rotated. Otherwise lines are missing because it is the next instance's log.
                bridges = wanted.follow and (missing == MISSING_TRIES - 1 or body.lacks_lines)
                await body.read_on(slot, previous=instance.is_previous, follow=not has_ended, bridges=bridges)
            if not body.is_complete:
                await body.ask_end(previous=instance.is_previous, is_final=instance.has_ended.is_set())
            if body.is_complete:
                return None
            if body.is_emptied and instance.has_ended.is_set():
                return ROTATED
            # Of a log that was rotated the rest may be gone, and then no answer has anything new.
            missing = missing + 1 if body.is_rotated and body.excerpt.size == size else 0
            if missing >= MISSING_TRIES:
                return ROTATED
        except NotFound:
            # Its containers have ended, and what was there before the Pod was deleted was proved to be all.
            return None if body.is_proved else "pod-gone"
        except (NoLog, Differs):
            if instance.has_ended.is_set() and (body.is_proved or body.is_similar):
                return None if body.is_proved else ROTATED
            missing += 1
            if missing >= MISSING_TRIES:
                return None if body.is_proved else "container-gone"
        except (Throttled, Unauthorized, Unreachable) as error:
            # After a 401 the next attempt uses fresh credentials, or those that the cluster renews by then.
            wait = error.retry_after or 0.0
        except KubeError as error:
            if error.code != 400:
                return "refused"
            # The kubelet has no such container. It may be behind the API server, if that says that the container ran.
            missing += 1
            if not wanted.has_started or missing >= MISSING_TRIES:
                return "container-gone" if wanted.has_started else "never-started"
        await asyncio.sleep(max(wait, pause * random.uniform(0.5, 1)))  # noqa: S311
        pause = min(pause * 2, longest)


@asynccontextmanager
async def _asking_once_ended(instance: Instance, body: LogBody) -> AsyncIterator[None]:
    """While a log is followed: request its last lines as soon as the container ends. The kubelet drops the log of a deleted Pod
    about as soon as it ends the answer to a follower."""
    if instance.has_ended.is_set():
        yield
        return

    async def ask() -> None:
        await instance.has_ended.wait()
        with suppress(KubeError, NoLog):
            await body.ask_end(previous=instance.is_previous, is_final=True)

    asking = asyncio.create_task(ask(), name="log end")
    try:
        yield
        if instance.has_ended.is_set():
            await asyncio.wait([asking])
    finally:
        asking.cancel()
        await asyncio.wait([asking])
