"""A list that is broken off while its next page is on its way."""

import asyncio
import gc
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from controller.reflector import Reflector, Source
from jobcast.kube.decode import JOBS, Page
from jobcast.kube.errors import Forbidden


class OnePage:
    """An API server that gives one page and refuses the next."""

    def __init__(self) -> None:
        self.has_refused = asyncio.Event()

    async def pages(self, *_: object) -> AsyncGenerator[Page[Any], None]:
        yield Page([], "1", "more")
        self.has_refused.set()
        raise Forbidden("not any more")


class Store:
    def __init__(self, api: OnePage) -> None:
        self._api = api

    def begin(self) -> None: ...

    async def page(self, items: list[Any]) -> None:
        await self._api.has_refused.wait()
        raise ConnectionError("redis is down")


async def test_a_page_that_fails_after_the_list_was_abandoned_is_no_mistake_of_ours() -> None:
    api: Any = OnePage()
    store: Any = Store(api)
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    with pytest.raises(ConnectionError):
        await Reflector(Source(api, JOBS, "evals", ""), store)._list()
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []
