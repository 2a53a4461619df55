"""What a handler may do that it should not: each has an end, and the events behind it flow."""

from pathlib import Path

import pytest
from workers import Worker, completed, tell, world

from tests.conftest import until

BAD = """
class Speechless(Exception):
    def __str__(self): raise RuntimeError("no words")

class Unpicklable(Exception):
    def __init__(self, one, two): self.lock = __import__("threading").Lock()

async def later(): ...

def does(event):
    match event.eval_id:
        case "object": return object()
        case "lock": return __import__("threading").Lock()
        case "awaitable": return later()
        case "speechless": raise Speechless
        case "unpicklable": raise Unpicklable(1, 2)
        case "interrupt": raise KeyboardInterrupt
        case "exit": raise SystemExit(3)
        case "retry": raise __import__("celery").exceptions.Retry("later")
        case "group": raise BaseExceptionGroup("both", [KeyboardInterrupt(), ValueError()])
        case "deep": return does(event)

@on("completed", max_retries=0)
def score(event):
    call("score", event)
    return does(event)
"""
ENDS = {
    "object": None,
    "lock": None,
    "awaitable": "TypeError: handler my_handlers.score returned an awaitable; it must be a plain function",
    "speechless": "Speechless, without a readable text",
    "unpicklable": "Unpicklable: (1, 2)",
    "interrupt": "KeyboardInterrupt: ",
    "exit": "SystemExit: 3",
    "retry": "Retry: later",
    "group": "BaseExceptionGroup: both (2 sub-exceptions)",
    "deep": "RecursionError: maximum recursion depth exceeded",
}


@pytest.mark.must_survive(30)
@pytest.mark.parametrize(
    ("pool", "has_results"), [("prefork", True), ("prefork", False), ("threads", True), ("solo", False)]
)
def test_whatever_a_handler_returns_or_raises_has_an_end(valkey, tmp_path: Path, pool, has_results) -> None:
    prefix = f"bad-{pool}"
    env = {"KEY_PREFIX": prefix, "CELERY_RESULT_BACKEND": valkey.url if has_results else ""}
    with (
        world(valkey.url, prefix) as redis,
        Worker(valkey.url, tmp_path, BAD, "-P", pool, "-c", "1", **env) as worker,
    ):
        tell(valkey.url, prefix, *map(completed, ENDS))
        until(lambda: redis.is_done)
        assert sorted(redis.calls) == sorted(f"score {name} completed" for name in ENDS)
        reasons = {
            letter["event"].partition('"eval_id":"')[2].partition('"')[0]: letter["reason"] for letter in redis.dead
        }
        assert reasons == {name: reason for name, reason in ENDS.items() if reason is not None}
        assert all(letter["tries"] == "1" for letter in redis.dead)
        assert "Traceback" not in worker.log
        # Celery stores a result after the task has ended.
        until(lambda: len(redis.client.keys("celery-task-meta-*")) == (len(ENDS) if has_results else 0))
