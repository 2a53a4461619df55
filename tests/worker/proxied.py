"""The fault proxy for tests that are not asyncio's, on a loop and a thread of its own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from testbed.faultproxy import FaultProxy


class Proxied:
    """Between a worker and its Redis."""

    def __init__(self, proxy: FaultProxy, loop: asyncio.AbstractEventLoop) -> None:
        self._proxy = proxy
        self._loop = loop
        self.url = f"redis://127.0.0.1:{proxy.port}/0"

    @property
    def lost(self) -> int:
        """Replies that never came back."""
        return self._proxy.lost

    def cut(self) -> None:
        """End all connections; new ones are welcome."""
        asyncio.run_coroutine_threadsafe(self._proxy.cut(), self._loop).result(10)

    def lose_reply_to(self, text: bytes, *, always: bool = False) -> None:
        """Pass the next request with this text on, and cut its connection when the reply to it comes. With `always` each
        such request, until `lose_no_more`."""
        self._loop.call_soon_threadsafe(partial(self._proxy.lose_reply_to, text, always=always))

    def lose_no_more(self) -> None:
        self._loop.call_soon_threadsafe(self._proxy.lose_no_more)


@contextmanager
def proxied(port: int) -> Iterator[Proxied]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fault proxy")
    thread.start()
    proxy = FaultProxy(port)
    asyncio.run_coroutine_threadsafe(proxy.__aenter__(), loop).result(10)
    try:
        yield Proxied(proxy, loop)
    finally:
        asyncio.run_coroutine_threadsafe(proxy.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
