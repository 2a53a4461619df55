"""What a container finds at paths that are its own: its volumes, and the file for its last words.

A process here sees the machine's file system and nothing mounted. Instead, an environment variable whose value is such a
path gets the local one: `STATE=/state` leads to the emptyDir at /state, `SAY=/dev/termination-log` to the message.
"""

from __future__ import annotations

from pathlib import Path

from devcluster.errors import Obj
from devcluster.logfile import LogFile

MESSAGE_BYTES = 4096
FALLBACK_BYTES = 2048
FALLBACK_LINES = 80
"""What a kubelet takes of a message, and of a log in its place."""


class Mounts:
    """Of one container. Volumes are the Pod's and live as long as it; the message is written anew by each start."""

    def __init__(self, pod: Obj, container: Obj, folder: Path) -> None:
        self._container = container
        self._message = folder / container["name"] / "termination-log"
        self.local = {container["terminationMessagePath"]: str(self._message)}
        """By path in the container, the one here."""
        shared = {volume["name"] for volume in pod["spec"].get("volumes") or [] if "emptyDir" in volume}
        for mount in container.get("volumeMounts") or []:
            if mount["name"] in shared:
                self.local[mount["mountPath"]] = str(folder / ".volumes" / mount["name"])

    def prepare(self) -> None:
        for path in self.local.values():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            if path == str(self._message):
                self._message.write_bytes(b"")
            else:
                Path(path).mkdir(exist_ok=True)

    def last_words(self, exit_code: int, log: LogFile) -> str:
        """The termination message; empty without one."""
        said = self._message.read_bytes()[:MESSAGE_BYTES] if self._message.exists() else b""
        if not said and exit_code != 0 and self._container["terminationMessagePolicy"] == "FallbackToLogsOnError":
            start = max(log.offset_of_tail(FALLBACK_LINES), log.size - FALLBACK_BYTES)
            said = b"".join(log.blocks(start, log.size))
        return said.decode(errors="replace")
