"""Which Redis a command talks to, checked before anything is asked of it."""

from dataclasses import dataclass, field

import typer

from jobcast.cli.render.output import complain
from jobcast.client import AsyncClient
from jobcast.client.address import address, names, where
from jobcast.client.effects import ConnectionReport, log_connection
from jobcast.client.operator import Operator

EXIT_WRONG_SETTINGS = 2


@dataclass(frozen=True, slots=True)
class Redis:
    """Where, and under which prefix. The URL may hold a password and is never shown."""

    url: str = field(repr=False)
    prefix: str

    @property
    def where(self) -> str:
        return where(self.url)

    @classmethod
    def of(cls, url: str | None, prefix: str | None) -> "Redis":
        """From the options, else the environment. Ends the command with code 2 and a line when one is wrong."""
        try:
            name = "REDIS_URL" if url is None else "--redis-url"
            checked = address(url)
            name = "KEY_PREFIX" if prefix is None else "--prefix"
            return cls(checked, names(prefix).prefix)
        except ValueError as error:
            complain(f"{name}: {error}")
            raise typer.Exit(EXIT_WRONG_SETTINGS) from None

    def client(self, trouble: ConnectionReport = log_connection) -> AsyncClient:
        return AsyncClient(self.url, self.prefix, trouble=trouble)

    def operator(self, trouble: ConnectionReport = log_connection) -> Operator:
        return Operator(self.url, self.prefix, trouble=trouble)

    def report_connection(self, trouble: str | None) -> None:
        """For whoever looks on while a command waits for Redis."""
        complain(f"waiting for Redis at {self.where}: {trouble}" if trouble else "Redis is back")
