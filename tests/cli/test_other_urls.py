"""The commands for operators where Redis is behind sentinels, or a cluster."""

import json
import subprocess
from collections.abc import Callable

from jobcast.redis.connection import connect_plain
from tests.cli.operating import Stage
from tests.client.telling import event
from tests.valkeys.fixtures import DOUBLED_PREFIX
from tests.valkeys.nodes import Doubled

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_they_work_behind_sentinels_and_in_a_cluster(call: Run, doubled: Doubled) -> None:
    def out(*arguments: str) -> str:
        result = call(*arguments, REDIS_URL=doubled.url, KEY_PREFIX=DOUBLED_PREFIX)
        assert result.returncode == 0, result.stderr
        return result.stdout

    with connect_plain(doubled.url, prefix=DOUBLED_PREFIX, decode_responses=True) as client:
        stage = Stage(client, DOUBLED_PREFIX)
        stage.announce("mine.score")
        stage.tell(event("failed", "a"))
        client.xgroup_create(stage.keys.events, "worker", id="0")
        letter = stage.bury(event("failed", "b"))
        dropped = stage.bury(event("failed", "c"))
        assert [line.split()[0] for line in out("dead", "list").splitlines()] == [letter, dropped]
        out("dead", "drop", dropped, "--yes")
        out("dead", "replay", "--all")
        out("replay", "--since", "2h", "--eval", "a", "--handler", "score")
        assert [one["eval_id"] for one in stage.replays] == ["b", "a"]
        (group,) = json.loads(out("lag", "--json"))["groups"]
        assert group["lag"] == 1
