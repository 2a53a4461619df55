"""The live channels: each event, and progress, as it is told, to whoever listens at that moment."""

from collections.abc import Sequence

from jobcast.client.effects import Give, Health, Program, Ready
from jobcast.client.subscription import Subscription
from jobcast.event import Status
from jobcast.keys import Keys
from jobcast.redis.connection import ERRORS
from jobcast.wire import MalformedEvent, decode, decode_progress


def wanted(statuses: Sequence[str]) -> tuple[Status, ...]:
    """The statuses asked for, all when none is named. Raises ValueError naming one that does not exist."""
    for status in statuses:
        if status not in Status.__members__.values():
            raise ValueError(f"{status!r} is not a status; there are {', '.join(Status)}")
    return tuple(dict.fromkeys(map(Status, statuses))) or tuple(Status)


def live(keys: Keys, statuses: Sequence[Status], progress: bool, health: Health) -> Program[None]:
    """Gives events for ever, with `progress` that as well. Subscribes again after a loss; what was told meanwhile is gone."""
    subscription = Subscription((*map(keys.channel, statuses), *((keys.progress,) if progress else ())))
    while True:
        try:
            yield from subscription.open()
            health.found()
            yield Ready()
            while True:
                heard = yield from subscription.hear()
                if heard is None:
                    continue
                channel, data = heard
                try:
                    told = decode_progress(data) if channel == keys.progress else decode(data)
                except MalformedEvent:
                    health.malformed += 1
                    continue
                health.raw = data
                yield Give(told)
        except ERRORS as error:
            yield health.lost(error)
