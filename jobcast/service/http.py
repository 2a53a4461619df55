"""Two small servers for Probes: one on the event loop, one in a thread."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiohttp import web

from jobcast.service.probes import Probes
from jobcast.service.threads import Supervised


class PortTaken(Exception):
    """The address cannot be listened on; the text says why."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        super().__init__(f"{port}: cannot listen on {host}: {error.strerror}; choose another port")


@contextlib.asynccontextmanager
async def serve(host: str, port: int, probes: Probes) -> AsyncIterator[int]:
    """Answers on the running event loop; yields the port. Raises PortTaken."""

    async def handle(request: web.Request) -> web.Response:
        # Metrics take tens of milliseconds to render: not on the event loop. The checks are not safe off it.
        is_slow = request.path == "/metrics"
        answer = await asyncio.to_thread(probes.answer, request.path) if is_slow else probes.answer(request.path)
        return web.Response(status=answer.code, body=answer.body, headers={"Content-Type": answer.content_type})

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    try:
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise PortTaken(host, port, error) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class ThreadServer:
    """Listens as soon as it is made, answers from `start` on."""

    def __init__(
        self, host: str, port: int, probes: Probes, *, restarted: Callable[[str], None] = lambda name: None
    ) -> None:
        """Raises PortTaken."""
        try:
            self._server = _Server((host, port), _handler(probes))
        except OSError as error:
            raise PortTaken(host, port, error) from error
        self.port: int = self._server.server_address[1]
        self._stop = threading.Event()
        self._thread = Supervised("http", lambda: self._server.serve_forever(0.1), self._stop, restarted=restarted)

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


def _handler(probes: Probes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5  # a silent client does not keep a thread

        def do_GET(self) -> None:
            answer = probes.answer(self.path)
            self.send_response(answer.code)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
            """Probes are not logged."""

    return Handler
