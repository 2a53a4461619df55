"""Celery's consumer, which survives every answer of its broker: it waits until the broker accepts writes, and continues
(ADR 10). Tasks that need no broker go on meanwhile: Celery's loop turns while it waits."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from billiard.common import restart_state
from celery.utils.log import get_logger
from celery.worker import consumer
from celery.worker.state import maybe_shutdown
from kombu import Connection
from kombu.exceptions import OperationalError

from jobcast.backoff import pause
from worker.context import context_of

log = get_logger(__name__)
PAUSE_SECONDS = (0.05, 1.0)
"""First and longest pause before the broker is tried again, and after a connection that was lost soon."""
STEADY_SECONDS = 10.0
"""A connection that lasted so long does not count as lost soon."""
TURN_SECONDS = 0.1
"""So often it is looked whether the worker is to stop."""
NEVER_TOO_OFTEN = 10**9
"""Lost connections within a second, after which Celery would warn and sleep for a whole one."""


class Consumer(consumer.Consumer):
    """Differs from Celery's in which errors count as a lost broker, in how it waits for one, and in what a message is: an offer
    to begin a run, which the delivery accepts or not."""

    connection_errors: tuple[type[Exception], ...]
    channel_errors: tuple[type[Exception], ...]
    connection: Any
    hub: Any
    controller: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        # Other workers know nothing that we need, and asking them would take a second at every reconnect.
        super().__init__(*args, **{**options, "without_mingle": True, "without_gossip": True})
        self._context = context_of(self.app)
        self._restart_state = restart_state(maxR=NEVER_TOO_OFTEN, maxT=1)
        self._losses = 0
        self._connected_at = 0.0
        # Kombu takes a refusal (READONLY, OOM, MISCONF, UNBLOCKED) for an error of the caller's, and wraps what it has
        # tried more than once; either would end the worker.
        self.connection_errors = (*self.connection_errors, *self.channel_errors, OperationalError)
        if self.pool is not None:
            self.update_strategies()
            self._context.transport.attach(self)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Any:
        """Handles a message of the broker."""
        handle = super().create_task_handler(*args, **kwargs)
        ours = {task.name for task in self.app.tasks_of_handlers}  # type: ignore[attr-defined]

        def on_message(message: Any) -> None:
            name = str((message.headers or {}).get("task"))
            entry = _entry_of(message) if name in ours else None
            if entry is None:
                handle(message)
            else:
                self._context.offer(entry, name, lambda: self._acknowledge(message))

        return on_message

    def _acknowledge(self, message: Any) -> None:
        """From any thread. The connection that the message came by may be closed by then; the broker hands the message out again,
        and the delivery knows that its run has begun."""

        def acknowledge() -> None:
            try:
                message.ack()
            except self.connection_errors:
                raise
            except Exception:
                log.debug("could not acknowledge a message of a lost connection", exc_info=True)

        self.call_soon(acknowledge)

    def on_close(self) -> None:
        """Between two connections. Celery would forget its tasks; ours do not depend on a connection. It has reset its loop, so
        what it was writing to the processes of the pool is written to the end here."""
        pool: Any = getattr(self.pool, "_pool", None)
        active = getattr(pool, "_active_writers", ())
        for job in list(pool._cache.values()) if active else ():
            writer = job._writer and job._writer()
            if writer in active:
                pool._flush_writer(job._write_to, writer)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Close it, however broken it is. What it had not acknowledged is handed out again."""
        self._context.broker.mark_down(exc)
        lost, self.connection = self.connection, None
        for end in (lambda: lost.collect(socket_timeout=1), lost.close):
            with contextlib.suppress(Exception):
                end()
        is_soon = time.monotonic() - self._connected_at < STEADY_SECONDS
        self._losses = self._losses + 1 if is_soon else 1
        self._turn(seconds=pause(self._losses, PAUSE_SECONDS))

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        self._context.broker.mark_down(exc)

    def ensure_connected(self, conn: Connection) -> Any:
        """Returns the connection once the broker accepts writes: one that only answers would refuse the next step."""
        failures = 0
        while (error := self._tried(conn)) is not None:
            # Not this connection again: the address may lead to another server by now.
            with contextlib.suppress(Exception):
                conn.close()
            if self.connection is not None or not isinstance(error, self.connection_errors):
                raise error
            self._context.broker.mark_down(error)
            failures += 1
            self._turn(seconds=pause(failures, PAUSE_SECONDS))
        self.first_connection_attempt = False
        self._connected_at = time.monotonic()
        return conn

    def _tried(self, conn: Connection) -> Exception | None:
        """Why it cannot be reached, or None. In a thread: a server that does not answer may take seconds."""
        failed: list[Exception] = []

        def reach() -> None:
            try:
                conn.ensure_connection(max_retries=0, reraise_as_library_errors=False)
                for queue in self.app.amqp.queues.consume_from.values():
                    queue(conn.default_channel).declare()
            except Exception as error:
                failed.append(error)

        attempt = threading.Thread(target=reach, name="broker", daemon=True)
        attempt.start()
        attempt.join(TURN_SECONDS)
        self._turn(until=lambda: not attempt.is_alive())
        return failed[0] if failed else None

    def _turn(self, *, seconds: float = float("inf"), until: Callable[[], bool] = lambda: False) -> None:
        """Let Celery's loop turn without a broker, for so long."""
        if self.connection is not None or until():
            # The loop is not ours to turn: it is about to begin with this connection.
            while not until():
                time.sleep(TURN_SECONDS)
            return
        end = time.monotonic() + seconds
        with _turning(self.hub, self.controller, self._context.transport.register) as turn:
            while time.monotonic() < end and not until():
                maybe_shutdown()
                turn(min(TURN_SECONDS, max(0.0, end - time.monotonic())))


@contextlib.contextmanager
def _turning(hub: Any, controller: Any, register: Callable[[Any], object]) -> Any:
    """What turns the loop once, for no longer than so many seconds; as celery.worker.loops.asynloop does with a connection."""
    if hub is None:
        yield time.sleep
        return
    before = _timers(hub)
    controller.register_with_event_loop(hub)
    register(hub)
    ours = _timers(hub) - before
    loop = hub.create_loop()

    def turn(seconds: float) -> None:
        nonlocal loop
        timer = hub.timer.call_after(seconds, lambda: None)
        try:
            next(loop)
        except StopIteration:
            loop = hub.create_loop()
        except Exception:
            log.debug("a callback of a lost connection failed", exc_info=True)
            loop = hub.create_loop()
        finally:
            hub.timer.cancel(timer)

    try:
        yield turn
    finally:
        for timer in ours:
            hub.timer.cancel(timer)


def _timers(hub: Any) -> set[Any]:
    return {scheduled.entry for scheduled in hub.timer.queue}


def _entry_of(message: Any) -> str | None:
    """The entry that a message of ours is about; None for one that somebody else has made."""
    try:
        entry = message.payload[0][0]
    except Exception:
        return None
    return entry if isinstance(entry, str) else None
