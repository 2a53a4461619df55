"""`jobcast get`: how an evaluation stands and went."""

import msgspec

from jobcast.cli.redis import Redis
from jobcast.cli.render.output import complain, console, write_json
from jobcast.cli.render.progress import patience
from jobcast.cli.render.record import print_page
from jobcast.client import Record
from jobcast.wire import UNREADABLE

EXIT_NOT_FOUND = 1


async def get(redis: Redis, eval_id: str, json: bool) -> int:
    """Shows the record. Raises ClientError, BrokenPipeError."""
    async with redis.client() as jobcast, patience(f"asking Redis at {redis.where}"):
        record = await jobcast.get(eval_id)
    if record is None:
        complain(f"nothing is known of evaluation {eval_id!r} at {redis.where}, prefix {redis.prefix}")
        return EXIT_NOT_FOUND
    if json:
        write_json(as_json(record))
    else:
        print_page(console(), record)
    return 0


def as_json(record: Record) -> bytes:
    """The record with the event as it was on the wire; null for one that is not even JSON."""
    fields = {name: getattr(record, name) for name in record.__struct_fields__ if name not in ("event", "raw")}
    raw = record.raw or b"null"
    try:
        msgspec.json.decode(raw)
    except UNREADABLE:
        raw = b"null"
    return msgspec.json.encode({**fields, "event": msgspec.Raw(raw)})
