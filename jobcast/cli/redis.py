"""The Redis of a command, checked before anything is asked of it."""

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
    """URL and prefix. The URL may contain a password and is never shown."""

    url: str = field(repr=False)
    prefix: str

    @property
    def where(self) -> str:
        return where(self.url)

    @classmethod
    def of(cls, url: str | None, prefix: str | None) -> "Redis":
        """From the options, else the environment. Ends the command with code 2 if one is wrong."""
        try:
            name = "REDIS_URL" if url is None else "--redis-url"
            checked = address(url)
            name = "KEY_PREFIX" if prefix is None else "--prefix"
            return cls(checked, names(prefix).prefix)
        except ValueError as error:
            complain(f"{name}: {error}")
            raise typer.Exit(EXIT_WRONG_SETTINGS) from None

    def client(self, report: ConnectionReport = log_connection) -> AsyncClient:
        return AsyncClient(self.url, self.prefix, trouble=report)

    def operator(self, report: ConnectionReport = log_connection) -> Operator:
        return Operator(self.url, self.prefix, trouble=report)

    def report_connection(self, error: str | None) -> None:
        """One line on standard error when the connection is lost, and one when it works again."""
        complain(f"waiting for Redis at {self.where}: {error}" if error else "reconnected to Redis")
