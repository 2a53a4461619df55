"""Probes and metrics of the worker, on a thread of their own.

`/livez` says whether the bridge still comes round and the sweep is not overdue, not whether Redis or the cluster answer:
a restart would heal neither. `/readyz` says in addition whether Redis and the broker take what they are told, and if not,
why; what is wrong beside that follows, a line each. `/metrics` is Prometheus' text, `/statusz` JSON for people.
"""

import contextlib
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST

from jobcast import __version__
from jobcast.service.membership import Membership
from jobcast.service.threads import Supervised
from worker import metrics
from worker.pool_metrics import exposition

Check: TypeAlias = Callable[[], str | None]
"""What is wrong, or None."""
Ask: TypeAlias = Callable[[], object]
"""How it fares: anything that JSON can say."""


class PortTaken(Exception):
    """The address cannot be listened on; the text says why."""


class Probe:
    """The server. Listens from its making on, answers from `start` on."""

    def __init__(self, host: str, port: int) -> None:
        self._checks: dict[str, Check] = {}
        self._needs: dict[str, Check] = {}
        self._asks: dict[str, Ask] = {}
        self.neighbours = Membership()
        """Set anew by whoever hears of the others."""
        try:
            self._server = _Server((host, port), _handler(self))
        except OSError as error:
            raise PortTaken(f"{port}: cannot listen on {host}: {error.strerror}; choose another port") from error
        self.port: int = self._server.server_address[1]
        self._stop = threading.Event()
        self._thread = Supervised(
            "http", lambda: self._server.serve_forever(0.1), self._stop, restarted=metrics.task_restarted
        )

    def watch(self, name: str, unhealthy_reason: Check) -> None:
        """Have `/livez` ask it too."""
        self._checks[name] = unhealthy_reason

    def need(self, name: str, unhealthy_reason: Check) -> None:
        """Have `/readyz` ask it too."""
        self._needs[name] = unhealthy_reason

    def alive(self) -> list[str]:
        """What a restart may mend."""
        return _wrong(self._checks)

    def ready(self) -> list[str]:
        """Why it cannot do its work, or not all of it."""
        return _wrong(self._checks) + _wrong(self._needs)

    def status(self) -> dict[str, Any]:
        """For people."""
        return {
            "ready": self.ready() or "yes",
            "alive": self.alive() or "yes",
            "warnings": self.neighbours.misfits,
            "version": __version__,
            "parts": self.neighbours.shown(),
            **{name: ask() for name, ask in list(self._asks.items())},
        }

    def show(self, name: str, ask: Ask) -> None:
        """Have `/statusz` ask it too."""
        self._asks[name] = ask

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


def _wrong(asked: dict[str, Check]) -> list[str]:
    return [f"{name}: {text}" for name, ask in list(asked.items()) if (text := ask()) is not None]


def _handler(probe: Probe) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5  # a client that says nothing must not keep a thread

        def do_GET(self) -> None:
            match self.path:
                case "/metrics":
                    self._answer(200, exposition(), CONTENT_TYPE_LATEST)
                case "/livez":
                    self._say(probe.alive())
                case "/readyz":
                    self._say(probe.ready(), probe.neighbours.misfits)
                case "/statusz":
                    body = msgspec.json.format(msgspec.json.encode(probe.status()), indent=2)
                    self._answer(200, body + b"\n", "application/json")
                case _:
                    self._answer(404, b"there are /livez, /readyz, /metrics and /statusz\n", "text/plain")

        def _say(self, wrong: list[str], warnings: Sequence[str] = ()) -> None:
            lines = [*(wrong or ["ok"]), *(f"warning: {one}" for one in warnings)]
            self._answer(503 if wrong else 200, "\n".join(lines).encode() + b"\n", "text/plain")

        def _answer(self, code: int, body: bytes, kind: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
            """A probe a second is no news."""

    return Handler
