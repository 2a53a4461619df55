"""A node that rotates the log of a container while it is followed, in every way that a kubelet was seen to."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from jobcast.kube import NotFound, Unreachable
from tests.logs.kubelet import Entry, pieces, send

Step = int | str
"""What happens next: so many entries are written, or

rotate   the kubelet begins a new file
lose     an entry is written that no follower gets: into the old file, when the follower reads the new one already
cut      the follower's connection breaks; what the steps `lose` and `rotate` after it say happens before it comes back
end      the follower's answer ends as if it were whole, although the container runs
"""


class Node:
    """As a LogSource. The steps happen while the log is followed; then the rest is written, and the container ends."""

    def __init__(self, file: list[Entry], steps: list[Step], ended: Callable[[], object], sizes: list[int]) -> None:
        self.entries = file
        """All that the container prints."""
        self.requests: list[dict[str, str]] = []
        self.is_gone = False
        """The Pod no longer exists."""
        self._steps = steps
        self._ended = ended
        self._sizes = sizes
        self._start = 0
        """The first entry of the current file."""
        self._written = 0

    @asynccontextmanager
    async def log(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        previous: bool = False,
        follow: bool = False,
        more: Mapping[str, str] = {},
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        self.requests.append({**more, "follow": str(follow)})
        if self.is_gone:
            raise NotFound("gone", code=404)
        yield self._follow(more) if follow else self._send(send(self.entries[self._start : self._written], more))

    async def _send(self, data: bytes) -> AsyncIterator[bytes]:
        for chunk in pieces(data, self._sizes):
            yield chunk

    async def _follow(self, more: Mapping[str, str]) -> AsyncIterator[bytes]:
        sent, is_new_line = self.entries[self._start : self._written], True
        while True:
            async for chunk in self._send(send(sent, more, is_new_line=is_new_line)):
                yield chunk
            is_new_line = sent[-1][1].endswith(b"\n") if sent else is_new_line
            step = self._steps.pop(0) if self._steps else None
            if step in ("cut", "end"):
                while self._steps and self._steps[0] in ("lose", "rotate"):
                    self._happen(self._steps.pop(0))
                if step == "cut":
                    raise Unreachable("cut in the middle")
                return
            sent = self._happen(len(self.entries) if step is None else step)
            if step is None:
                self._ended()
                async for chunk in self._send(send(sent, more, is_new_line=is_new_line)):
                    yield chunk
                return

    def _happen(self, step: Step) -> list[Entry]:
        """Returns what a follower gets of it."""
        before = self._written
        self._written = min(before + (step if isinstance(step, int) else int(step == "lose")), len(self.entries))
        if step == "rotate":
            self._start = self._written
        return [] if step == "lose" else self.entries[before : self._written]
