"""Both servers answer alike what the probes say."""

import asyncio
import json

import pytest

from jobcast.service.http import PortTaken, ThreadServer, serve
from jobcast.service.probes import Probes
from testbed.pages import page

PATHS = ("/livez", "/readyz", "/metrics", "/statusz", "/statusz?x=1", "/other")


async def test_both_servers_give_the_same_answers() -> None:
    probes = Probes(lambda: b"jobcast_up 1\n")
    probes.check("thread", lambda: "no round for 9 s")
    probes.need("", lambda: "stopping")
    probes.warn(lambda: ["an older worker runs"])
    probes.show("queue", lambda: 3)
    server = ThreadServer("127.0.0.1", 0, probes)
    server.start()
    try:
        async with serve("127.0.0.1", 0, probes) as port:
            answers = [[await asyncio.to_thread(page, one, path) for path in PATHS] for one in (port, server.port)]
    finally:
        server.stop()
    assert answers[0] == answers[1]
    live, ready, metrics, status, same, other = answers[0]
    assert live == (503, "thread: no round for 9 s\n")
    assert ready == (503, "thread: no round for 9 s\nstopping\nwarning: an older worker runs\n")
    assert metrics == (200, "jobcast_up 1\n")
    assert status == same
    assert json.loads(status[1])["queue"] == 3
    assert json.loads(status[1])["ready"] == "thread: no round for 9 s; stopping"
    assert other[0] == 404


async def test_a_port_that_is_taken_is_named_by_both() -> None:
    probes = Probes(bytes)
    async with serve("127.0.0.1", 0, probes) as port:
        with pytest.raises(
            PortTaken, match=f"{port}: cannot listen on 127.0.0.1: Address already in use; choose another"
        ):
            ThreadServer("127.0.0.1", port, probes)
        with pytest.raises(PortTaken, match=f"{port}: cannot listen on 127.0.0.1:"):
            async with serve("127.0.0.1", port, probes):
                pass
