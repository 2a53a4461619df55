"""A cluster for commands, and Jobs that somebody tells of."""

import asyncio
import subprocess
from collections.abc import Callable
from typing import Any

from jobcast.event import JobRef
from tests.api import Api, Obj, is_over
from tests.client.telling import Teller, event
from tests.conftest import eventually


class Told:
    """Plays the controller's part: tells of the one Job that there is."""

    def __init__(self, api: Api, teller: Teller) -> None:
        self.api = api
        self.teller = teller

    async def job(self) -> Obj:
        """Once it is there."""

        async def found() -> list[Obj]:
            return (await self.api.get(self.api.jobs))["items"]  # type: ignore[no-any-return]

        return (await eventually(found))[0]

    async def pod(self, check: Callable[[Obj], bool] = is_over) -> Obj:
        return await self.api.pod_of((await self.job())["metadata"]["name"], check)

    async def tell(self, status: str, eval_id: str, **more: Any) -> None:
        """Of this Job."""
        meta = (await self.job())["metadata"]
        ref = JobRef(meta["namespace"], meta["name"], meta["uid"])
        await self.teller.tell(event(status, eval_id, uid=ref.uid, job=ref, **more))


def in_background(call: Callable[..., Any], *arguments: str) -> "asyncio.Task[subprocess.CompletedProcess[str]]":
    """A command under way, off the event loop on which the API server lives."""
    return asyncio.create_task(asyncio.to_thread(call, *arguments))
