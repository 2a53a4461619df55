"""Waits for new entries and for other threads, whichever comes first, so that nothing has to be polled."""

import contextlib
import select
import socket
from typing import Any

import redis

from worker.group import Places
from worker.scripts import Call


class Wakeup:
    """Of one thread, which asks and waits; `wake` is for all others. Raises redis errors as they come; `forget` after each.

    It sends XREAD, which waits and delivers nothing, and right behind it a script, which delivers and cannot wait: Redis runs
    it as soon as there is something, without another round trip. By then another worker may have got it.
    """

    def __init__(self, client: "redis.Redis", streams: tuple[str, str], seconds: float) -> None:
        """`seconds` is the longest that Redis waits."""
        self._pool = client.connection_pool
        self._streams = streams
        self._block_ms = int(seconds * 1000)
        self._connection: Any = None
        """While Redis owes an answer."""
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)

    @property
    def is_asked(self) -> bool:
        """Whether Redis owes an answer."""
        return self._connection is not None

    def ask(self, behind: Places, reading: Call) -> None:
        """Have Redis run it when there is something behind these places, or when it has waited long enough."""
        connection: Any = self._pool.get_connection()
        try:
            wait = ("XREAD", "COUNT", 1, "BLOCK", self._block_ms, "STREAMS", *self._streams, *behind)
            read = ("EVALSHA", reading.script.sha, len(reading.keys), *reading.keys, *reading.args)
            connection.send_packed_command(connection.pack_commands([wait, read]))
        except BaseException:
            self._pool.release(connection)
            raise
        self._connection = connection

    def wait(self, seconds: float) -> Any:
        """Redis' answer once it is there; None after so many seconds, or when another thread wakes us. Also None when the
        connection was lost, or Redis has lost the script: the next reading finds out."""
        watched = select.poll()
        watched.register(self._receiver, select.POLLIN)
        if self._connection is not None:
            watched.register(self._connection._sock, select.POLLIN)
        ready = {descriptor for descriptor, _ in watched.poll(max(0.0, seconds) * 1000)}
        if self._receiver.fileno() in ready:
            self._receiver.recv(4096)
            ready.discard(self._receiver.fileno())
        return self.answer() if ready else None

    def answer(self) -> Any:
        """Redis' answer, however long it takes; None where it owes none."""
        if self._connection is None:
            return None
        try:
            self._connection.read_response()
            return self._connection.read_response()
        except (redis.exceptions.NoScriptError, redis.ConnectionError):
            return None
        except BaseException:
            self._connection.disconnect()
            raise
        finally:
            self._release()

    def wake(self) -> None:
        """From any thread."""
        with contextlib.suppress(OSError):  # it is full of such calls already, or closed
            self._sender.send(b"!")

    def forget(self) -> None:
        """Wait for no answer any more."""
        if self._connection is not None:
            self._connection.disconnect()
            self._release()

    def close(self) -> None:
        self.forget()
        self._receiver.close()
        self._sender.close()

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        self._pool.release(connection)
