"""Between each part and Redis: one door a part, so that a fault may fall on one of them."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

WRITES = (b"EVALSHA", b"XACK", b"XREADGROUP")
"""What a reply is lost to: the ledger's steps, the workers' acknowledgements, and entries on their way to a reader."""


class Door:
    """One part's way to Redis. Its links are tasks, one a connection."""

    def __init__(self, proxy: "RedisProxy") -> None:
        self._proxy = proxy
        self._links: set[asyncio.Task[None]] = set()
        self._losing = False
        self.is_shut = False
        """Whoever comes is turned away, while others get through."""
        self.lost = 0
        """Replies that never came back."""
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        await self.cut()

    async def cut(self) -> None:
        """End all connections; new ones are welcome."""
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    def lose_replies(self) -> None:
        """Let each write through, and cut its connection when the reply comes; until it is forgiven."""
        self._losing = True

    def forgive(self) -> None:
        self._losing = self.is_shut = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        ends = [writer]
        pumps: list[asyncio.Task[None]] = []
        try:
            if self._proxy.target is None or self.is_shut:
                return
            answers, upstream = await asyncio.open_connection("127.0.0.1", self._proxy.target)
            ends.append(upstream)
            doomed = asyncio.Event()
            pumps = [
                asyncio.create_task(self._pump(reader, upstream, doomed, is_request=True)),
                asyncio.create_task(self._pump(answers, writer, doomed, is_request=False)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass  # Redis is down, or `cut`: the client sees its connection end
        finally:
            for end in ends:
                end.transport.abort()
            for pump in pumps:
                pump.cancel()
            self._links.discard(link)
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event, *, is_request: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(256 * 1024):
                if is_request and self._losing and any(word in data.upper() for word in WRITES):
                    doomed.set()
                elif not is_request and doomed.is_set():
                    self.lost += 1
                    return
                writer.write(data)
                await writer.drain()


class RedisProxy:
    """`target` is the port that all doors lead to; None: they are shut at once."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.doors = {name: Door(self) for name in names}
        self.target: int | None = None

    async def __aenter__(self) -> Self:
        for door in self.doors.values():
            await door.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for door in self.doors.values():
            await door.close()

    async def lead_to(self, port: int | None) -> None:
        """From now on; nobody stays where they were."""
        self.target = port
        await asyncio.gather(*(door.cut() for door in self.doors.values()))
