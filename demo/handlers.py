"""A user's handler: three lines of Jobcast, the rest is the user's own. Its result goes where the user wants it."""

import json
import os

import redis

from jobcast import on
from jobcast.event import Completed

SCORES = "demo:scores"


@on("completed")
def score(event: Completed) -> None:
    """Reads the score that the evaluation printed as its last line of JSON, and keeps it by evaluation."""
    scores = [
        value["score"]
        for line in event.output.splitlines()
        if isinstance(value := _json(line), dict) and "score" in value
    ]
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        client.hset(SCORES, event.eval_id, str(scores[-1]) if scores else "no score printed")


def _json(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None
