"""Probes and metrics of the worker, on a thread of their own.

`/livez` says whether the bridge still comes round and the sweep is not overdue, not whether Redis or the cluster answer:
a restart would heal neither. `/readyz` says in addition whether Redis and the broker take what they are told, and if not,
why. `/metrics` is Prometheus' text.
"""

import contextlib
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

from prometheus_client import CONTENT_TYPE_LATEST

from worker.multiprocess import exposition
from worker.presence import Presence
from worker.supervisor import Supervised

Ailment: TypeAlias = Callable[[], str | None]
"""What is wrong, or None."""


class PortTaken(Exception):
    """The address cannot be listened on; the text says why."""


class Probe:
    """The server. Listens from its making on, answers from `start` on."""

    def __init__(self, host: str, port: int) -> None:
        self._ailments: dict[str, Ailment] = {}
        self._needs: dict[str, Ailment] = {}
        paths = {"/livez": (self._ailments,), "/readyz": (self._ailments, self._needs)}
        try:
            self._server = _Server((host, port), _handler(paths))
        except OSError as error:
            raise PortTaken(f"{port}: cannot listen on {host}: {error.strerror}; choose another port") from error
        self.port: int = self._server.server_address[1]
        self._stop = threading.Event()
        self._thread = Supervised("http", lambda: self._server.serve_forever(0.1), self._stop)

    def watch(self, name: str, ailment: Ailment) -> None:
        """Have `/livez` ask it too."""
        self._ailments[name] = ailment

    def need(self, presence: Presence) -> None:
        """Have `/readyz` ask it too."""
        self._needs[presence.system] = lambda: presence.trouble

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def close_inherited(self, **_: Any) -> None:
        """In a forked process: let go of the port."""
        with contextlib.suppress(OSError):
            self._server.socket.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 16


def _handler(paths: dict[str, tuple[dict[str, Ailment], ...]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5  # a client that says nothing must not keep a thread

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, exposition(), CONTENT_TYPE_LATEST)
            elif self.path in paths:
                asked = [item for group in paths[self.path] for item in list(group.items())]
                wrong = [f"{name}: {text}" for name, ask in asked if (text := ask()) is not None]
                self._answer(503 if wrong else 200, ("\n".join(wrong) or "ok").encode() + b"\n", "text/plain")
            else:
                self._answer(404, b"there are /livez, /readyz and /metrics\n", "text/plain")

        def _answer(self, code: int, body: bytes, kind: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
            """A probe a second is no news."""

    return Handler
