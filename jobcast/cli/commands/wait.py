"""`jobcast wait`: until evaluations have ended."""

from jobcast.cli.options import (
    EvalIds,
    Labels,
    Namespaces,
    Timeout,
    seconds_of,
)
from jobcast.cli.redis import Redis
from jobcast.cli.render.event import line
from jobcast.cli.render.output import complain, console, print_line, write_json
from jobcast.cli.render.progress import waiting_for
from jobcast.cli.render.times import time_format
from jobcast.cli.run import EXIT_FAILED, EXIT_TIMEOUT, carry_out
from jobcast.cli.selection import Selection, selected, selection
from jobcast.client.operator import Operator
from jobcast.event import Status
from jobcast.wire import encode


def wait(
    evaluations: EvalIds = None,
    namespace: Namespaces = None,
    label: Labels = None,
    timeout: Timeout = None,
    *,
    as_json: bool,
    redis: Redis,
) -> None:
    """Wait until evaluations have ended; those that ended before count too.

    Exit code 0 if all completed, 1 if one failed or was cancelled, 124 after
    --timeout. An unknown id is waited for. With --label: all evaluations that
    match at the start.
    """
    chosen = selection(evaluations, label, namespace)
    seconds = seconds_of(timeout)
    carry_out(_wait(redis, chosen, seconds, as_json), redis)


async def _wait(redis: Redis, chosen: Selection, timeout: float | None, json: bool) -> int:
    """Prints each end. Raises ClientError if Redis is unreachable at the start, MalformedEvent, BrokenPipeError."""
    async with redis.operator(redis.report_connection) as jobcast:
        await jobcast.ping()
        ids = await selected(jobcast, chosen)
        unended = dict.fromkeys(ids)
        try:
            code = await _show(jobcast, unended, timeout, json)
        except TimeoutError:
            names = ", ".join(map(repr, unended))
            complain(f"evaluation{'s' if len(unended) > 1 else ''} {names} had not ended after {timeout:g} s")
            return EXIT_TIMEOUT
    return EXIT_FAILED if not ids or len(ids) < len(chosen.ids) else code


async def _show(jobcast: Operator, unended: dict[str, None], timeout: float | None, json: bool) -> int:
    out, code = console(), 0
    ends = aiter(jobcast.wait_all(list(unended), timeout))
    while unended:
        async with waiting_for(f"waiting for the end of {', '.join(list(unended)[:3])}"):
            end = await anext(ends)
        unended.pop(end.eval_id, None)
        if json:
            write_json(encode(end))
        else:
            print_line(out, line(end, time_format(out)))
        if end.status is not Status.COMPLETED:
            code = EXIT_FAILED
    return code
