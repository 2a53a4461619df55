"""A free port, on loopback."""

import contextlib
import secrets
import socket


def free_port() -> int:
    """Below those that the system gives to connections: one of them would take it before our process does."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
