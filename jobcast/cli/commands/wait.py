"""`jobcast wait`: until an evaluation has ended."""

from jobcast.cli.redis import Redis
from jobcast.cli.render.event import line
from jobcast.cli.render.output import complain, console, print_line, write_json
from jobcast.cli.render.progress import patience
from jobcast.event import Status
from jobcast.wire import encode

EXIT_NOT_COMPLETED = 1
EXIT_TIMEOUT = 124
"""As timeout(1) says it."""


async def wait(redis: Redis, eval_id: str, timeout: float | None, json: bool) -> int:
    """Shows the end. Raises ClientError when Redis cannot be reached at the start, MalformedEvent, BrokenPipeError."""
    async with redis.client(redis.report_connection) as jobcast:
        await jobcast.ping()
        try:
            async with patience(f"waiting for the end of {eval_id}"):
                end = await jobcast.wait(eval_id, timeout)
        except TimeoutError:
            complain(f"evaluation {eval_id!r} had not ended after {timeout:g} s")
            return EXIT_TIMEOUT
    if json:
        write_json(encode(end))
    else:
        print_line(console(), line(end))
    return 0 if end.status is Status.COMPLETED else EXIT_NOT_COMPLETED
