"""What a process answers to `/livez`, `/readyz`, `/metrics` and `/statusz`. The servers in service/http.py only transport it.

`/livez` fails when a restart may help. `/readyz` fails when the process cannot do its work, and then says why; warnings
follow, a line each, and change nothing. `/metrics` is Prometheus' text, `/statusz` JSON for people.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST

from jobcast import __version__
from jobcast.service.membership import Membership

Check: TypeAlias = Callable[[], str | None]
"""What is wrong, or None."""


class Answer(NamedTuple):
    """An HTTP response."""

    code: int
    content_type: str
    body: bytes


class Probes:
    """Collects checks while the process starts. Each is called from the server's thread or event loop, at every request."""

    def __init__(self, exposition: Callable[[], bytes]) -> None:
        """`exposition` renders the metrics."""
        self.membership = Membership()
        self._exposition = exposition
        self._checks: dict[str, Check] = {}
        self._needs: dict[str, Check] = {}
        self._warnings: list[Callable[[], list[str]]] = [lambda: self.membership.conflicts]
        self._shown: dict[str, Callable[[], object]] = {}

    def check(self, name: str, ask: Check) -> None:
        """Have `/livez` fail while it fails; `/readyz` as well. The answer begins with the name, unless that is empty."""
        self._checks[name] = ask

    def need(self, name: str, ask: Check) -> None:
        """Have `/readyz` fail while it fails."""
        self._needs[name] = ask

    def warn(self, ask: Callable[[], list[str]]) -> None:
        """Add its lines to the warnings."""
        self._warnings.insert(0, ask)

    def show(self, name: str, ask: Callable[[], object]) -> None:
        """Add what it returns to `/statusz`."""
        self._shown[name] = ask

    def answer(self, path: str) -> Answer:
        """Metrics of hundreds of label sets take tens of milliseconds; the others are cheap."""
        match path.partition("?")[0]:
            case "/metrics":
                return Answer(200, CONTENT_TYPE_LATEST, self._exposition())
            case "/livez":
                return _answer(_failures(self._checks), [])
            case "/readyz":
                return _answer(self._unready(), self._warned())
            case "/statusz":
                body = msgspec.json.format(msgspec.json.encode(self._status(), enc_hook=str), indent=2)
                return Answer(200, "application/json", body + b"\n")
            case _:
                return Answer(404, "text/plain; charset=utf-8", b"there are /livez, /readyz, /metrics and /statusz\n")

    def _unready(self) -> list[str]:
        return _failures(self._checks) + _failures(self._needs)

    def _warned(self) -> list[str]:
        return [line for ask in self._warnings for line in ask()]

    def _status(self) -> dict[str, object]:
        return {
            "ready": "; ".join(self._unready()) or "yes",
            "alive": "; ".join(_failures(self._checks)) or "yes",
            "warnings": self._warned(),
            "version": __version__,
            "members": self.membership.shown(),
            **{name: ask() for name, ask in list(self._shown.items())},
        }


def _failures(asked: dict[str, Check]) -> list[str]:
    return [f"{name}: {text}" if name else text for name, ask in list(asked.items()) if (text := ask()) is not None]


def _answer(failures: list[str], warnings: list[str]) -> Answer:
    lines = [*(failures or ["ok"]), *(f"warning: {one}" for one in warnings)]
    return Answer(503 if failures else 200, "text/plain; charset=utf-8", "\n".join(lines).encode() + b"\n")
