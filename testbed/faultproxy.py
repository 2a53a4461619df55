"""A TCP proxy that cuts, stalls and loses replies on demand: the faults of a network between two healthy ends."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class FaultProxy:
    """`async with FaultProxy(port) as proxy:` passes what comes to `proxy.port` on to that port of this machine."""

    def __init__(self, target: int | None) -> None:
        """None: new connections are refused."""
        self.port = 0
        self.is_shut = False
        """The same, without forgetting the target."""
        self.lost = 0
        """Replies that never came back."""
        self._target = target
        self._links: set[asyncio.Task[None]] = set()
        """One a connection."""
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._losing: tuple[bytes, ...] = ()
        self._is_losing_all = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self.cut()
        await self._server.wait_closed()

    async def cut(self) -> None:
        """End all connections; new ones are welcome."""
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    def lead_to(self, target: int | None) -> None:
        """New connections go to another port from now on, as when a name is given to another machine; the old ones stay."""
        self._target = target

    def stall(self) -> None:
        """Accept, and pass nothing on, in neither direction, until `flow`."""
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    def lose_reply_to(self, *texts: bytes, always: bool = False) -> None:
        """Pass the next request with one of these texts on, and cut its connection when the reply to it comes. With
        `always` each such request, until `lose_no_more`."""
        self._losing, self._is_losing_all = texts, always

    def lose_no_more(self) -> None:
        self._losing = ()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        link.add_done_callback(self._links.discard)
        ends = [writer]
        pumps: list[asyncio.Task[None]] = []
        try:
            if self._target is None or self.is_shut:
                return
            answers, upstream = await asyncio.open_connection("127.0.0.1", self._target)
            ends.append(upstream)
            doomed = asyncio.Event()
            pumps = [
                asyncio.create_task(self._pump(reader, upstream, doomed, is_request=True)),
                asyncio.create_task(self._pump(answers, writer, doomed, is_request=False)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass  # what we stand in front of is down, or `cut`: the client sees its connection end
        finally:
            # All of it is under way before the first wait: a second `cut` may end us there.
            for end in ends:
                end.transport.abort()
            for pump in pumps:
                pump.cancel()
            with contextlib.suppress(asyncio.CancelledError):  # which asyncio would print
                await asyncio.gather(*pumps, *(end.wait_closed() for end in ends), return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event, *, is_request: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(256 * 1024):
                await self._flowing.wait()
                if is_request and any(text in data for text in self._losing):
                    if not self._is_losing_all:
                        self._losing = ()
                    doomed.set()
                elif not is_request and doomed.is_set():
                    self.lost += 1
                    return
                writer.write(data)
                await writer.drain()
