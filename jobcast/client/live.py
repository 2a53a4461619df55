"""The live channels: events and progress at the moment they are published."""

from collections.abc import Sequence

from jobcast.client.effects import FeedState, Give, Operation, Ready
from jobcast.client.subscription import Subscription
from jobcast.event import Status
from jobcast.keys import Keys
from jobcast.redis.connection import ERRORS
from jobcast.wire import MalformedEvent, decode, decode_progress


def check_statuses(statuses: Sequence[str]) -> tuple[Status, ...]:
    """The statuses, or all if none is given. Raises ValueError for an unknown one."""
    for status in statuses:
        if status not in Status.__members__.values():
            raise ValueError(f"{status!r} is not a status; use {', '.join(Status)}")
    return tuple(dict.fromkeys(map(Status, statuses))) or tuple(Status)


def live(keys: Keys, statuses: Sequence[Status], progress: bool, state: FeedState) -> Operation[None]:
    """Gives events, and with `progress` also progress, forever. Subscribes again after a lost connection; what was published
    meanwhile is missed."""
    subscription = Subscription((*map(keys.channel, statuses), *((keys.progress,) if progress else ())))
    while True:
        try:
            yield from subscription.open()
            state.connected()
            yield Ready()
            while True:
                message = yield from subscription.receive()
                if message is None:
                    continue
                channel, data = message
                try:
                    published = decode_progress(data) if channel == keys.progress else decode(data)
                except MalformedEvent:
                    state.malformed += 1
                    continue
                state.raw = data
                yield Give(published)
        except ERRORS as error:
            yield state.disconnected(error)
