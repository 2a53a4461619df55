"""A handler. It may run twice for one event, so it uses the event's id as the key: the second run changes nothing."""

import os

import redis

from jobcast import on
from jobcast.event import Completed, Failed

scores = redis.Redis.from_url(os.environ["REDIS_URL"])


@on("completed", "failed", max_retries=5)
def score(event: Completed | Failed) -> None:
    points = 1 if event.exit_code == 0 else 0
    scores.hsetnx("scores", event.id, f"{event.eval_id} {points}")
