"""The live channels: each event as it is told, to whoever listens at that moment."""

from collections.abc import Sequence

from jobcast.client.program import Give, Health, Program, Ready
from jobcast.client.subscription import Subscription
from jobcast.connection import ERRORS
from jobcast.event import Status
from jobcast.keys import Keys
from jobcast.wire import MalformedEvent, decode


def wanted(statuses: Sequence[str]) -> tuple[Status, ...]:
    """The statuses asked for, all when none is named. Raises ValueError naming one that does not exist."""
    for status in statuses:
        if status not in Status.__members__.values():
            raise ValueError(f"{status!r} is not a status; there are {', '.join(Status)}")
    return tuple(dict.fromkeys(map(Status, statuses))) or tuple(Status)


def live(keys: Keys, statuses: Sequence[Status], health: Health) -> Program[None]:
    """Gives events for ever. Subscribes again after a loss; what was told meanwhile is gone."""
    subscription = Subscription(tuple(map(keys.channel, statuses)))
    while True:
        try:
            yield from subscription.open()
            health.found()
            yield Ready()
            while True:
                data = yield from subscription.hear()
                if data is None:
                    continue
                try:
                    event = decode(data)
                except MalformedEvent:
                    health.malformed += 1
                    continue
                health.raw = data
                yield Give(event)
        except ERRORS as error:
            yield health.lost(error)
